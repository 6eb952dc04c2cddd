//! The server of the chat: it gives out the page, and a token to everybody who says a name. A real one asks for a password.

use std::{env, error::Error};

use jwt_simple::{
    claims::Claims,
    prelude::{Duration, HS256Key, MACLike},
};
use serde_json::json;
use tiny_http::{Header, Response, Server};

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let key = HS256Key::from_bytes(env::var("ACCESS_KEY")?.as_bytes());
    let service = env::var("SERVICE_URL")?;
    let page = include_str!("page.html").replace("SERVICE_URL", &service);
    let html = Header::from_bytes("Content-Type", "text/html; charset=utf-8").map_err(|()| "an invalid header")?;
    let server = Server::http(format!("127.0.0.1:{}", env::var("CHAT_PORT")?))?;
    for request in server.incoming_requests() {
        let answer = match request.url().split_once("/token?name=") {
            Some((_, name)) if is_name(name) => {
                // Guests read along, everybody else may speak, too.
                let claims = json!({ "x-fastly-read": ["room-*"], "speaks": !name.starts_with("guest") });
                let claims = Claims::with_custom_claims(claims, Duration::from_mins(10)).with_subject(name);
                Response::from_string(key.authenticate(claims)?)
            }
            Some(_) => Response::from_string("Use 1 to 20 letters and digits as a name").with_status_code(400),
            None => Response::from_string(&page).with_header(html.clone()),
        };
        // A browser that has gone away gets nothing.
        let _ = request.respond(answer);
    }
    Ok(())
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
