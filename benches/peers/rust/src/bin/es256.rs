//! Checks the signature and sends back the events, in a new sandbox for each request.

use fastly::{Request, Response, SecretStore};
use jwt_simple::prelude::{ECDSAP256PublicKeyLike, ES256PublicKey, NoCustomClaims};

fn main() {
    let mut request = Request::from_client();
    let store = SecretStore::open("fanout").expect("the store");
    let key = store.get("GRIP_VERIFY_KEY").expect("the key").plaintext();
    let key = ES256PublicKey::from_jwk(std::str::from_utf8(&key).expect("text")).expect("a JWK");
    let signature = request.get_header_str("grip-sig").unwrap_or_default();
    if key.verify_token::<NoCustomClaims>(signature, None).is_err() {
        Response::from_status(403).send_to_client();
        return;
    }
    Response::from_status(200)
        .with_header("content-type", "application/websocket-events")
        .with_header("sec-websocket-extensions", "grip")
        .with_body(request.take_body())
        .send_to_client();
}
