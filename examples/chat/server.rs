//! The server of the chat: it gives out the page, and a token to everybody who says a name. A real one asks for a password.

use std::{env, error::Error, io::Cursor, thread};

use jwt_simple::{
    claims::Claims,
    prelude::{Duration, HS256Key, MACLike},
};
use serde_json::json;
use tiny_http::{Header, Request, Response, Server};

/// How many requests are handled at once.
const THREADS: usize = 32;

fn main() -> Result<(), Box<dyn Error + Send + Sync>> {
    let key = HS256Key::from_bytes(env::var("ACCESS_KEY")?.as_bytes());
    let service = env::var("SERVICE_URL")?;
    let page = include_str!("page.html").replace("SERVICE_URL", &service);
    let html = Header::from_bytes("Content-Type", "text/html; charset=utf-8").map_err(|()| "an invalid header")?;
    let server = Server::http(format!("127.0.0.1:{}", env::var("CHAT_PORT")?))?;
    let respond = |request: Request| {
        let response = match request.url().split_once("/token?name=") {
            Some((_, name)) if is_name(name) => token(&key, name),
            Some(_) => Response::from_string("Use 1 to 20 letters and digits as a name").with_status_code(400),
            None => Response::from_string(&page).with_header(html.clone()),
        };
        // A browser that has gone away gets nothing.
        let _ = request.respond(response);
    };
    // A client that sends a body slowly keeps nobody else waiting.
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| server.incoming_requests().for_each(respond));
        }
    });
    Ok(())
}

/// An access token. Guests read along, everybody else may speak, too.
fn token(key: &HS256Key, name: &str) -> Response<Cursor<Vec<u8>>> {
    let claims = json!({ "x-fastly-read": ["room-*"], "speaks": !name.starts_with("guest") });
    let claims = Claims::with_custom_claims(claims, Duration::from_mins(10)).with_subject(name);
    match key.authenticate(claims) {
        Ok(token) => Response::from_string(token),
        Err(error) => Response::from_string(error.to_string()).with_status_code(500),
    }
}

fn is_name(name: &str) -> bool {
    (1..=20).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_alphanumeric())
}
