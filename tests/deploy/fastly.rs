//! A stand-in for Fastly's API, as far as `scripts/deploy` uses it with the real Fastly CLI: services with versions, stores,
//! products. It keeps what it is told, records every request, and fails when a test says so.
//!
//! Source of the paths and JSON: Fastly's API reference, and what the CLI 16.1.0 sends and takes.

use std::{
    collections::BTreeMap,
    sync::{Arc, LazyLock, Mutex, MutexGuard},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use jwt_simple::prelude::{Ed25519KeyPair, EdDSAKeyPairLike};
use serde_json::{Value, json};

use crate::support::http::{Message, Response, Server};

/// The API, while a test runs.
#[derive(Clone)]
pub struct Fastly {
    pub port: u16,
    server: Server,
    account: Arc<Mutex<Account>>,
}

/// What the account has.
#[derive(Default)]
pub struct Account {
    pub services: Vec<Service>,
    pub stores: Vec<Store>,
    /// What to do with the next request that changes something and whose line contains this text.
    pub fault: Option<(String, Fault)>,
    made: usize,
}

#[derive(Clone)]
pub enum Fault {
    /// It is refused.
    Refused(u16, Value),
    /// It is carried out, but the client gets no response.
    Cut,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub id: String,
    pub name: String,
    pub kind: String,
    pub products: Vec<String>,
    pub versions: Vec<Version>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Version {
    pub active: bool,
    pub locked: bool,
    pub comment: String,
    pub domains: Vec<String>,
    /// By their names.
    pub backends: BTreeMap<String, BTreeMap<String, String>>,
    /// By the names under which the program opens the stores: the id of each.
    pub links: BTreeMap<String, String>,
    pub package: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Store {
    pub id: String,
    /// `config`, `secret` or `kv`.
    pub kind: String,
    pub name: String,
    pub items: BTreeMap<String, String>,
}

impl Service {
    pub fn active(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.active)
    }

    fn json(&self) -> Value {
        let versions: Vec<Value> = (1..=self.versions.len()).map(|number| self.version_json(number)).collect();
        json!({ "id": self.id, "name": self.name, "type": self.kind, "comment": "", "versions": versions })
    }

    fn version_json(&self, number: usize) -> Value {
        let Version { active, locked, comment, .. } = &self.versions[number - 1];
        json!({ "service_id": self.id, "number": number, "active": active, "locked": locked, "comment": comment })
    }
}

impl Fastly {
    pub fn start() -> Self {
        let account: Arc<Mutex<Account>> = Arc::default();
        let shared = Arc::clone(&account);
        let server = Server::start(move |request| {
            let mut account = shared.lock().expect("no panic under the lock");
            let fault = account.fault.take_if(|(text, _)| is_change(&request.start) && request.start.contains(&**text));
            if let Some((_, Fault::Refused(status, body))) = fault {
                return Response::new(status, &[("Content-Type", "application/json")], body.to_string());
            }
            match (account.respond(request), fault) {
                (_, Some(_)) => Response::Hangup,
                ((204, _), None) => Response::new(204, &[], ""),
                ((status, body), None) => {
                    Response::new(status, &[("Content-Type", "application/json")], body.to_string())
                }
            }
        });
        Self { port: server.port, server, account }
    }

    pub fn account(&self) -> MutexGuard<'_, Account> {
        self.account.lock().expect("no panic under the lock")
    }

    pub fn service(&self, name: &str) -> Service {
        self.account().services.iter().find(|service| service.name == name).cloned().expect("a service of that name")
    }

    /// The items of a store, by its kind and name.
    pub fn items(&self, kind: &str, name: &str) -> BTreeMap<String, String> {
        let account = self.account();
        let store = account.stores.iter().find(|store| (&*store.kind, &*store.name) == (kind, name));
        store.map(|store| store.items.clone()).expect("a store of that name")
    }

    /// Makes the next request fail that changes something and whose line contains this text.
    pub fn fail(&self, text: &str, fault: Fault) {
        self.account().fault = Some((text.to_owned(), fault));
    }

    pub fn requests(&self) -> Vec<Message> {
        self.server.requests()
    }

    /// The requests that changed something, or tried to, from number `from` on.
    pub fn changes(&self, from: usize) -> Vec<String> {
        let requests = self.requests();
        let lines = requests[from..].iter().map(|request| request.start.trim_end_matches(" HTTP/1.1").to_owned());
        lines.filter(|line| is_change(line)).collect()
    }
}

/// Whether a request changes something. With one POST the CLI asks for a key with which it seals a secret.
fn is_change(line: &str) -> bool {
    !line.starts_with("GET ") && !line.contains("/client-key")
}

type Answer = Result<Value, (u16, &'static str)>;

impl Account {
    fn respond(&mut self, request: &Message) -> (u16, Value) {
        let mut line = request.start.split(' ');
        let (method, target) = (line.next().unwrap_or_default(), line.next().unwrap_or_default());
        let path = target.split('?').next().unwrap_or_default();
        let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
        let is_known = request.header("fastly-key").is_some_and(|token| token != "rejected");
        let answer = if segments[0] != "realms" && !is_known {
            Err((401, "Provided credentials are missing or invalid"))
        } else {
            self.decide(method, &segments, request)
        };
        answer.map_or_else(
            |(status, problem)| (status, json!({ "msg": problem, "detail": problem })),
            |json| (if json.is_null() { 204 } else { 200 }, json),
        )
    }

    fn decide(&mut self, method: &str, path: &[&str], request: &Message) -> Answer {
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(&request.body).into_owned().collect();
        match (method, path) {
            ("GET", ["realms", ..]) => {
                Ok(json!({ "authorization_endpoint": "", "jwks_uri": "", "token_endpoint": "" }))
            }
            ("GET", ["service"]) => Ok(self.services.iter().map(Service::json).collect()),
            ("POST", ["service"]) => {
                if self.services.iter().any(|service| service.name == form["name"]) {
                    return Err((409, "Name is already taken by another service"));
                }
                let id = self.new_id();
                let (name, kind, versions) = (form["name"].clone(), form["type"].clone(), vec![Version::default()]);
                self.services.push(Service { id, name, kind, products: Vec::new(), versions });
                Ok(self.services.last().map(Service::json).unwrap_or_default())
            }
            ("GET" | "PUT", ["enabled-products", "v1", product, "services", id]) => {
                let service = self.service(id)?;
                if method == "PUT" {
                    service.products.push((*product).to_owned());
                }
                let is_enabled = service.products.iter().any(|known| known == product);
                if is_enabled {
                    Ok(json!({ "product": { "id": product } }))
                } else {
                    Err((400, "product is not enabled"))
                }
            }
            (_, ["service", id, path @ ..]) => self.in_service(method, id, path, request, &form),
            (_, ["resources", "stores", kind, path @ ..]) => self.in_stores(method, kind, path, request, &form),
            _ => Err((404, "the stand-in does not know this path")),
        }
    }

    fn in_service(
        &mut self,
        method: &str,
        id: &str,
        path: &[&str],
        request: &Message,
        form: &BTreeMap<String, String>,
    ) -> Answer {
        if let ("POST", ["version", _, "domain"]) = (method, path) {
            let is_taken =
                |service: &Service| service.versions.iter().any(|version| version.domains.contains(&form["name"]));
            if self.services.iter().any(|service| service.id != id && is_taken(service)) {
                return Err((400, "Domain is owned by another customer"));
            }
        }
        let kinds: BTreeMap<String, String> =
            self.stores.iter().map(|store| (store.id.clone(), store.kind.clone())).collect();
        let service = self.service(id)?;
        let number: usize = path.get(1).and_then(|number| number.parse().ok()).unwrap_or(1);
        if number == 0 || number > service.versions.len() {
            return Err((404, "Record not found"));
        }
        match (method, path) {
            ("DELETE", []) if service.active().is_some() => return Err((400, "Cannot delete an active service")),
            ("DELETE", []) => {
                self.services.retain(|service| service.id != id);
                return Ok(json!({ "status": "ok" }));
            }
            ("GET", []) => return Ok(service.json()),
            ("GET", ["details"]) => {
                let mut json = service.json();
                let active = (1..=service.versions.len()).find(|number| service.versions[number - 1].active);
                json["active_version"] = active.map(|number| service.version_json(number)).into();
                json["version"] = service.version_json(service.versions.len());
                return Ok(json);
            }
            ("GET", ["version"]) => {
                return Ok((1..=service.versions.len()).map(|number| service.version_json(number)).collect());
            }
            ("GET", ["version", _]) => return Ok(service.version_json(number)),
            ("PUT", ["version", _, "clone"]) => {
                let original = service.versions[number - 1].clone();
                service.versions.push(Version { active: false, locked: false, ..original });
                return Ok(service.version_json(service.versions.len()));
            }
            ("PUT", ["version", _, "activate"]) => {
                let version = &service.versions[number - 1];
                if version.domains.is_empty() || version.package.is_none() {
                    return Err((400, "Version has no associated domains or package"));
                }
                service.versions.iter_mut().for_each(|version| version.active = false);
                let version = &mut service.versions[number - 1];
                (version.active, version.locked) = (true, true);
                return Ok(service.version_json(number));
            }
            ("PUT", ["version", _, "deactivate"]) => {
                service.versions[number - 1].active = false;
                return Ok(service.version_json(number));
            }
            _ => {}
        }
        let service_id = service.id.clone();
        let version = &mut service.versions[number - 1];
        let with_ids = |mut json: Value| {
            json["service_id"] = json!(service_id);
            json["version"] = json!(number);
            json
        };
        if method != "GET" && version.locked {
            return Err((422, "Version is locked"));
        }
        match (method, &path[2.min(path.len())..]) {
            ("PUT", []) => version.comment = form["comment"].clone(),
            ("GET", ["domain"]) => {
                return Ok(version.domains.iter().map(|name| with_ids(json!({ "name": name }))).collect());
            }
            ("POST", ["domain"]) => version.domains.push(form["name"].clone()),
            ("GET", ["backend"]) => {
                return Ok(version.backends.values().map(|backend| with_ids(backend_json(backend))).collect());
            }
            ("POST", ["backend"]) if version.backends.contains_key(&form["name"]) => {
                return Err((409, "Duplicate record"));
            }
            ("POST", ["backend"]) => {
                version.backends.insert(form["name"].clone(), form.clone());
            }
            ("DELETE", ["backend", name]) => {
                version.backends.remove(*name).ok_or((404, "Record not found"))?;
            }
            ("PUT", ["backend", name]) => {
                let backend = version.backends.get_mut(*name).ok_or((404, "Record not found"))?;
                backend.extend(form.clone());
                return Ok(with_ids(backend_json(backend)));
            }
            ("GET", ["resource"]) => {
                let link = |(name, id): (&String, &String)| {
                    let kind = kinds.get(id).map_or("", |kind| kind);
                    with_ids(
                        json!({ "id": format!("link-{name}"), "name": name, "resource_id": id, "resource_type": kind }),
                    )
                };
                return Ok(version.links.iter().map(link).collect());
            }
            ("POST", ["resource"]) if !kinds.contains_key(&form["resource_id"]) => {
                return Err((404, "Record not found"));
            }
            ("POST", ["resource"]) if version.links.contains_key(&form["name"]) => {
                return Err((409, "Duplicate record"));
            }
            ("POST", ["resource"]) => {
                version.links.insert(form["name"].clone(), form["resource_id"].clone());
            }
            ("DELETE", ["resource", link]) => {
                version.links.remove(link.trim_start_matches("link-")).ok_or((404, "Record not found"))?;
            }
            ("PUT", ["package"]) => version.package = Some(part_of(&request.body)),
            _ => return Err((404, "the stand-in does not know this path")),
        }
        Ok(with_ids(json!({ "status": "ok", "name": form.get("name"), "id": "ID", "metadata": {} })))
    }

    fn in_stores(
        &mut self,
        method: &str,
        kind: &str,
        path: &[&str],
        request: &Message,
        form: &BTreeMap<String, String>,
    ) -> Answer {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        match (method, path) {
            ("POST", ["client-key"]) => {
                let key = [9; 32];
                let signature = SEAL.key_pair().as_ref().sk.sign(key, None);
                return Ok(json!({
                    "public_key": BASE64_STANDARD.encode(key),
                    "signature": BASE64_STANDARD.encode(signature.as_ref()),
                    "expires_at": "2099-01-01T00:00:00Z",
                }));
            }
            ("GET", ["signing-key"]) => {
                return Ok(json!({ "signing_key": BASE64_STANDARD.encode(SEAL.public_key().to_bytes()) }));
            }
            ("GET", []) => {
                let stores = self.stores.iter().filter(|store| store.kind == kind);
                return Ok(listed(kind, stores.map(|store| json!({ "id": store.id, "name": store.name })).collect()));
            }
            ("POST", []) => {
                let name = form.get("name").cloned().or_else(|| Some(body["name"].as_str()?.to_owned()));
                let name = name.ok_or((400, "no name"))?;
                if self.stores.iter().any(|store| (&*store.kind, &store.name) == (kind, &name)) {
                    return Err((409, "Duplicate record"));
                }
                let id = self.new_id();
                self.stores.push(Store {
                    id: id.clone(),
                    kind: kind.to_owned(),
                    name: name.clone(),
                    items: BTreeMap::new(),
                });
                return Ok(json!({ "id": id, "name": name }));
            }
            ("DELETE", [id]) => {
                self.stores.retain(|store| store.id != *id);
                return Ok(Value::Null);
            }
            _ => {}
        }
        let store = self.stores.iter_mut().find(|store| store.id == path[0]).ok_or((404, "Record not found"))?;
        match (method, &path[1..]) {
            ("GET", []) => Ok(json!({ "id": store.id, "name": store.name })),
            ("GET", ["items"]) => {
                let item = |(key, value)| json!({ "store_id": store.id, "item_key": key, "item_value": value });
                Ok(store.items.iter().map(item).collect())
            }
            ("PUT", ["item", key]) => {
                store.items.insert((*key).to_owned(), form["item_value"].clone());
                Ok(json!({ "store_id": store.id, "item_key": key, "item_value": form["item_value"] }))
            }
            ("GET", ["secrets"]) => {
                Ok(listed(kind, store.items.keys().map(|name| json!({ "name": name, "digest": "AAAA" })).collect()))
            }
            ("PUT", ["secrets"]) => {
                let (Some(name), Some(sealed)) = (body["name"].as_str(), body["secret"].as_str()) else {
                    return Err((400, "no name or secret"));
                };
                if body["client_key"].as_str().is_none() {
                    return Err((400, "the secret is not sealed"));
                }
                store.items.insert(name.to_owned(), sealed.to_owned());
                Ok(json!({ "name": name, "digest": "AAAA" }))
            }
            ("GET", ["keys"]) => Ok(listed(kind, Vec::new())),
            _ => Err((404, "the stand-in does not know this path")),
        }
    }

    fn service(&mut self, id: &str) -> Result<&mut Service, (u16, &'static str)> {
        self.services.iter_mut().find(|service| service.id == id).ok_or((404, "Record not found"))
    }

    fn new_id(&mut self) -> String {
        self.made += 1;
        format!("ID{:020}", self.made)
    }
}

/// Signs the key with which the CLI seals secrets.
static SEAL: LazyLock<Ed25519KeyPair> = LazyLock::new(Ed25519KeyPair::generate);

/// A list of the API: those of Config Stores stand alone.
fn listed(kind: &str, list: Vec<Value>) -> Value {
    if kind == "config" { Value::Array(list) } else { json!({ "data": list, "meta": { "limit": 50 } }) }
}

/// Port 443 turns TLS on. Source: Fastly's API reference, backends.
fn backend_json(backend: &BTreeMap<String, String>) -> Value {
    let port: u16 = backend.get("port").and_then(|port| port.parse().ok()).unwrap_or(80);
    json!({
        "name": backend["name"], "address": backend["address"], "port": port, "use_ssl": port == 443,
        "override_host": backend.get("override_host"), "ssl_cert_hostname": backend.get("ssl_cert_hostname"),
        "ssl_sni_hostname": backend.get("ssl_sni_hostname"),
    })
}

/// The only part of a `multipart/form-data` body.
fn part_of(body: &[u8]) -> Vec<u8> {
    let find = |bytes: &[u8], what: &[u8]| bytes.windows(what.len()).position(|window| window == what);
    let Some(start) = find(body, b"\r\n\r\n").map(|at| at + 4) else { return Vec::new() };
    let end = body.windows(4).rposition(|window| window == b"\r\n--").unwrap_or(body.len());
    body[start..end].to_vec()
}
