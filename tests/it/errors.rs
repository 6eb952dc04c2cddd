//! Every refusal: its status, its exact text, and whether it says what to do.

use std::collections::BTreeMap;

use fanout_edge::{
    Rejection,
    app::{
        error::{Error, Right, SettingError},
        log::take_line,
        platform::{BackendError, Counter, StoreError},
        state::EntryError,
        web::Response,
    },
    grip::{Channel, WebSocket, publish::PublishError, signature::SignatureError},
};

use crate::service::Host;

/// One of each variant; the match makes a new one a compile error here.
fn all() -> Vec<(Error, u16, &'static str)> {
    let events = WebSocket::new(fanout_edge::grip::Signed::unverified(u64::MAX), &[], b"")
        .err()
        .expect("there is no Connection-Id");
    let all = vec![
        (
            Error::NotFound,
            404,
            "Not found: use /api/websocket, /api/events, /api/poll, /api/broadcast, /api/disconnect, /api/history or /api/health",
        ),
        (Error::MethodNotAllowed { allowed: "GET, POST".to_owned() }, 405, "Method not allowed: use GET, POST"),
        (Error::QueryTooLong, 414, "Query too long: use at most 3500 bytes, percent-encoded"),
        (Error::ChannelName, 400, "Invalid channel name: use 1 to 64 of A-Z a-z 0-9 - . _ ~"),
        (Error::TooManyChannels { limit: 19 }, 400, "Too many channels: use at most 19"),
        (Error::ChannelAndUser, 400, "Channel and user: send to a channel, ?channel=NAME, or to one user, ?user=ID"),
        (
            Error::UnknownParameter { name: "a\nb".to_owned(), known: &["user", "code"] },
            400,
            "Unknown parameter `a\\nb`: use only user, code",
        ),
        (Error::Repeated { name: "user" }, 400, "Repeated parameter: use user once, and send a request for each"),
        (Error::Unescaped { name: "user" }, 400, "Invalid user: write ; as %3B, and in the id of a user + as %2B"),
        (Error::Except, 400, "Invalid except: use the id of a connection, 1 to 128 bytes, ?except=ID"),
        (Error::User, 400, "Invalid user: use 1 to 128 characters, ?user=ID"),
        (Error::NoUser, 400, "Missing user: add ?user= and the id of the user"),
        (
            Error::CloseFrame,
            400,
            "Invalid code or reason: use code=4000 to code=4999, and a reason of at most 123 bytes",
        ),
        (
            Error::ForbiddenUser(Right::Disconnect),
            403,
            "The access token does not allow disconnecting this user (claim x-fastly-disconnect)",
        ),
        (
            Error::NoAccessKey,
            501,
            "Without an access key no client is a user: add ACCESS_KEY to the secret store `fanout`",
        ),
        (
            Error::Audience { is_there: true, is_set: true },
            401,
            "Access token rejected: for another audience (aud). Get one for this service",
        ),
        (Error::Parameter { name: "echo", values: ["on", "off"] }, 400, "Invalid echo: use echo=on or echo=off"),
        (
            Error::UpgradeRequired,
            426,
            "This is a WebSocket endpoint: connect with a WebSocket client, npx wscat -c ws://HOST/api/websocket (wss:// on Fastly)",
        ),
        (
            Error::NotEvents,
            400,
            "[not a websocket request] Send the header `Content-Type: application/websocket-events` once, in exactly this spelling",
        ),
        (
            Error::Events(events),
            400,
            "Invalid WebSocket-over-HTTP request: the header Connection-Id is missing: add it",
        ),
        (
            Error::MediaType,
            415,
            "Unsupported Content-Type: add the header `Content-Type: text/plain` (curl -H 'Content-Type: text/plain' -d …) or application/octet-stream, once",
        ),
        (
            Error::NotUtf8 { at: 3 },
            400,
            "Invalid UTF-8 at byte 3: send text as UTF-8, or bytes as application/octet-stream",
        ),
        (Error::BodyTooLarge { limit: 9 }, 413, "Body too large: send at most 9 bytes"),
        (Error::BodyIncomplete, 400, "Incomplete body: send the request again"),
        (Error::NotProxied, 403, "[not proxied] Only the GRIP proxy may send this: connect with a WebSocket client"),
        (
            Error::Signature(SignatureError::Expired),
            403,
            "[not proxied] Only the GRIP proxy may send this: connect with a WebSocket client",
        ),
        (Error::Origin, 403, "Origin not allowed: add it to the setting ALLOWED_ORIGINS"),
        (
            Error::NoToken,
            401,
            "Access token required: send the header `Authorization: Bearer TOKEN`, ?token=TOKEN, or the WebSocket subprotocols `bearer, TOKEN`",
        ),
        (Error::FastlyKey, 401, "Fastly-Key rejected: use a Fastly API token of this service, or an access token"),
        (Error::Token(SignatureError::Expired), 401, "Access token rejected: expired. Get a new one"),
        (
            Error::NoKeyId,
            401,
            "Access token rejected: no key ID (kid), and there are several keys. Add it to the token",
        ),
        (Error::UnknownKeyId, 401, "Access token rejected: unknown key ID (kid). Use that of a key in ACCESS_KEY"),
        (Error::Subject, 401, "Access token rejected: sub must be a string of 1 to 128 characters"),
        (Error::Claim(Right::Read), 401, "Access token rejected: x-fastly-read must be a list of strings"),
        (
            Error::Forbidden(Right::Write, Channel::from_static("a")),
            403,
            "The access token does not allow publishing to `a` (claim x-fastly-write)",
        ),
        (
            Error::TooMany { counter: Counter::Openings, limit: 5 },
            429,
            "Too many connections: at most 5 per minute, wait 60 seconds",
        ),
        (
            Error::MessageTooLarge { limit: 9 },
            413,
            "Message too large: at most 9 bytes like these can be published, send less",
        ),
        (
            Error::BatchTooLarge,
            413,
            "Too much to publish at once: at most 200 messages in 6 publish requests of 65536 bytes; send less, then wait",
        ),
        (
            Error::Publish(PublishError::Unreachable),
            502,
            "The message is probably not published: the GRIP proxy could not be reached, try again",
        ),
        (
            Error::PartlyPublished { published: 6, total: 10, error: PublishError::TimedOut },
            504,
            "At least 6 of 10 messages are published: the GRIP proxy did not respond in time",
        ),
        (
            Error::Setting(SettingError::secret("GRIP_URL", "lacks verify-key")),
            503,
            "The entry GRIP_URL of the secret store `fanout` lacks verify-key",
        ),
        (
            Error::HandOff { backend: "self", cause: "no".to_owned() },
            503,
            "Cannot hand off to Fanout through the backend `self`: no. Is Fanout enabled for the service?",
        ),
        (
            Error::Backend { name: "rooms".to_owned(), error: BackendError::TimedOut },
            504,
            "The backend `rooms` did not respond in time: try again later",
        ),
        (Error::AckValue, 500, "Invalid value of an acknowledgement: use at most 1000 bytes of JSON"),
        (
            Error::State,
            500,
            "Invalid connection state: use a name of letters, digits, - and _, and a value of at most 512 bytes, as percent-encoded JSON",
        ),
        (Error::LookAlike { known: "channel" }, 400, "Misspelled parameter: write it exactly so, ?channel="),
        (
            Error::MessageId,
            400,
            "Invalid id: use the Message-Id of the first try, a UUID version 7 that was made within the last 60 seconds",
        ),
        (
            Error::UpgradeSpelling,
            400,
            "Invalid Upgrade: send `Upgrade: websocket` once, in exactly this spelling, as the GRIP proxy takes no other",
        ),
        (Error::Charset, 415, "Unsupported charset: send text in UTF-8, Content-Type: text/plain; charset=utf-8"),
        (
            Error::ContentCoding,
            415,
            "Unsupported Content-Encoding: send the body as it is, not compressed, without this header",
        ),
        (
            Error::OnlyKept(Box::new(Error::Publish(PublishError::Unreachable))),
            502,
            "The message is probably not published: the GRIP proxy could not be reached, try again; clients that reconnect may get it",
        ),
        (
            Error::NotKept { published: None, error: StoreError::TooMany },
            502,
            "The message is published, but not kept: the KV store is too busy; send it again with its Message-Id",
        ),
        (
            Error::Since,
            400,
            "Invalid since: use the id of the last message, or a time that has passed, 2026-01-31T08:00:00Z",
        ),
        (Error::SinceFormat, 400, "Invalid since: add format=json, or use /api/events"),
        (Error::SyncTooOften, 400, "Too many syncs: send one, then wait for its response"),
        (
            Error::NoSince,
            400,
            "Missing since: add ?since= and the id of the last message, or a time, 2026-01-31T08:00:00Z",
        ),
        (Error::Subprotocol, 400, "Missing subprotocol: offer the one that this service requires"),
        (Error::NotAccepted, 500, "The handler did not accept the connection: call connection.accept()"),
        (
            Error::Entry { store: "fanout", name: "KEY".to_owned(), error: EntryError::Missing },
            503,
            "The entry KEY of the secret store `fanout` is missing: add it",
        ),
        (
            Error::Entry { store: "fanout_config", name: "KEY".to_owned(), error: EntryError::Unreadable },
            503,
            "The entry KEY of the config store `fanout_config` cannot be read as text: correct it",
        ),
        (
            Error::Entry { store: "fanout", name: "KEY".to_owned(), error: EntryError::TooMany },
            500,
            "The entry KEY of the secret store `fanout` was not read: read at most 2 new secrets in one batch, and 16 settings in all",
        ),
        (
            Error::Handler { cause: "a cause".to_owned() },
            500,
            "The handler failed: try again later, the log of the service says why",
        ),
        (Rejection::new(402, "Pay first").into(), 402, "Pay first"),
    ];
    for (error, ..) in &all {
        // A new variant belongs into the list above.
        match error {
            Error::NotFound
            | Error::MethodNotAllowed { .. }
            | Error::QueryTooLong
            | Error::ChannelName
            | Error::TooManyChannels { .. }
            | Error::ChannelAndUser
            | Error::UnknownParameter { .. }
            | Error::Repeated { .. }
            | Error::Unescaped { .. }
            | Error::Except
            | Error::User
            | Error::NoUser
            | Error::CloseFrame
            | Error::ForbiddenUser(_)
            | Error::NoAccessKey
            | Error::Parameter { .. }
            | Error::LookAlike { .. }
            | Error::MessageId
            | Error::UpgradeRequired
            | Error::UpgradeSpelling
            | Error::NotEvents
            | Error::Events(_)
            | Error::MediaType
            | Error::Charset
            | Error::ContentCoding
            | Error::NotUtf8 { .. }
            | Error::BodyTooLarge { .. }
            | Error::BodyIncomplete
            | Error::NotProxied
            | Error::Signature(_)
            | Error::Origin
            | Error::NoToken
            | Error::FastlyKey
            | Error::Token(_)
            | Error::NoKeyId
            | Error::UnknownKeyId
            | Error::Audience { .. }
            | Error::Subject
            | Error::Claim(_)
            | Error::Forbidden(..)
            | Error::TooMany { .. }
            | Error::MessageTooLarge { .. }
            | Error::BatchTooLarge
            | Error::Publish(_)
            | Error::PartlyPublished { .. }
            | Error::OnlyKept(_)
            | Error::NotKept { .. }
            | Error::Since
            | Error::SinceFormat
            | Error::SyncTooOften
            | Error::NoSince
            | Error::Setting(_)
            | Error::HandOff { .. }
            | Error::Backend { .. }
            | Error::State
            | Error::AckValue
            | Error::Subprotocol
            | Error::NotAccepted
            | Error::Entry { .. }
            | Error::Handler { .. }
            | Error::Rejected { .. } => {}
        }
    }
    all
}

#[test]
fn every_error_has_its_status_and_its_text() {
    let all = all();
    for (error, status, text) in &all {
        let response = error.response();
        assert_eq!((response.status, &*String::from_utf8_lossy(&response.body)), (*status, &*format!("{text}\n")));
        assert_eq!(response.headers["content-type"], "text/plain; charset=utf-8");
        assert_eq!(response.log, error.log());
    }
    let variants: std::collections::HashSet<_> = all.iter().map(|(error, ..)| std::mem::discriminant(error)).collect();
    assert_eq!((variants.len(), all.len()), (61, 63), "each variant is there");
}

#[test]
fn every_error_says_what_to_do() {
    let advice = [
        "use ",
        "write ",
        "send ",
        "Send ",
        "add ",
        "Add ",
        "call ",
        "connect ",
        "Get ",
        "Use ",
        "wait ",
        "try again",
        "must be",
        "broadcast to",
        "(claim ",
        "the GRIP proxy accepts ",
        "Is Fanout enabled",
        // A setting names its entry; what was published says how much; the handler chose the text itself.
        "Get one for this service",
        "The entry ",
        " messages are published: ",
        "Pay first",
        "offer ",
    ];
    for (error, _, text) in all() {
        assert!(advice.iter().any(|advice| text.contains(advice)), "{text}");
        assert_eq!(error.to_string().lines().count(), 1);
    }
}

#[test]
fn every_error_closes_an_open_connection_with_a_reason_that_fits() {
    for (error, status, text) in all() {
        let (code, reason) = error.close();
        let expected = match status {
            413 => 1009,
            400..=499 => 1008,
            _ => 1011,
        };
        assert_eq!(code.get(), expected, "{text}");
        // These happen before there is a connection. Of the others the library would cut a reason that is too long.
        let is_earlier = matches!(
            error,
            Error::NotFound | Error::UpgradeRequired | Error::NotEvents | Error::MediaType | Error::HandOff { .. }
        );
        assert!((1..=123).contains(&reason.len()) || is_earlier, "{reason}");
    }
}

#[test]
fn the_log_has_nothing_that_a_client_chose() {
    let secret = Channel::from_static("s3cret");
    for error in [Error::Forbidden(Right::Read, secret), Rejection::new(400, "s3cret").into()] {
        assert!(error.to_string().contains("s3cret"));
        assert!(!error.log().expect("a line").contains("s3cret"));
    }
}

#[test]
fn every_error_has_its_line_for_the_log() {
    for (error, status, text) in all() {
        let expected = match &error {
            // A client can cause these at will, and the response says as much.
            Error::NotFound
            | Error::MethodNotAllowed { .. }
            | Error::QueryTooLong
            | Error::ChannelAndUser
            | Error::UnknownParameter { .. }
            | Error::Repeated { .. }
            | Error::Unescaped { .. }
            | Error::Except
            | Error::User
            | Error::NoUser
            | Error::CloseFrame
            | Error::NoAccessKey
            | Error::UpgradeRequired
            | Error::NotEvents
            | Error::MediaType
            | Error::Charset
            | Error::ContentCoding
            | Error::NotUtf8 { .. }
            | Error::BodyTooLarge { .. }
            | Error::BodyIncomplete
            | Error::MessageTooLarge { .. }
            | Error::MessageId => None,
            Error::NotProxied => Some("rejected a request without a Grip-Sig"),
            Error::Signature(_) => Some("rejected a Grip-Sig: expired"),
            Error::Origin => Some("rejected a page of another origin"),
            Error::NoToken => Some("rejected a request without an access token"),
            Error::FastlyKey => Some("rejected a Fastly-Key"),
            Error::Token(_) => Some("rejected an access token: expired"),
            Error::ForbiddenUser(_) => Some("rejected an access token: a user is missing in x-fastly-disconnect"),
            Error::Forbidden(..) => Some("rejected an access token: a channel is missing in x-fastly-write"),
            Error::TooMany { .. } => Some("rejected one of too many connections"),
            Error::Rejected { .. } => Some("the handler rejected a client with status 402"),
            Error::Handler { .. } => Some("the handler failed: a cause"),
            _ => Some(text),
        };
        assert_eq!(error.log().as_deref(), expected, "{status} {text}");
    }
    let status = |error| Error::Backend { name: String::new(), error }.status();
    use BackendError::{Missing, TimedOut, TooLarge as Large, TooMany, Unreachable, Url};
    assert_eq!([Missing, Url, Unreachable, TimedOut, Large, TooMany].map(status), [503, 500, 502, 504, 502, 500]);
}

#[test]
fn what_clients_cause_at_will_is_counted_and_logged_only_on_a_developers_machine() {
    let host = |is_local| {
        let mut host = Host::default();
        host.is_local = is_local;
        host
    };
    let mut host_on_fastly = host(false);
    let mut expected = BTreeMap::new();
    for (error, status, text) in all() {
        let is_operators = (status >= 500 && error != Error::NoAccessKey) || matches!(error, Error::Events(_));
        for _ in 0..3 {
            let line = take_line(&mut error.response(), &mut host_on_fastly);
            assert_eq!(line, error.log().filter(|_| is_operators), "{text}");
        }
        if !is_operators {
            let line = error.log().unwrap_or_else(|| format!("rejected a request with status {status}"));
            *expected.entry(line).or_insert(0) += 3;
        }
        let mut local = host(true);
        assert_eq!(take_line(&mut error.response(), &mut local), error.log());
        assert_eq!(local.state.rejected().count(), 0);
    }
    let expected: Vec<_> = expected.iter().map(|(line, count)| format!("{line} (of {count} requests)")).collect();
    assert_eq!(host_on_fastly.state.rejected().collect::<Vec<_>>(), expected);
    assert!(expected.contains(&"rejected a Grip-Sig: expired (of 3 requests)".to_owned()));
    // What succeeds is no rejection, and what the handler rejects on an open connection is one.
    assert_eq!(take_line(&mut Response::text(200, "Ok"), &mut host_on_fastly), None);
    assert_eq!(take_line(&mut Error::Origin.logged_in(Response::empty(200)), &mut host_on_fastly), None);
    assert!(host_on_fastly.state.rejected().any(|line| line == "rejected a page of another origin (of 4 requests)"));
    let mut fresh = host(false);
    let mut too_large = Error::MessageTooLarge { limit: 1 }.logged_in(Response::empty(200));
    assert_eq!(take_line(&mut too_large, &mut fresh), None);
    assert_eq!(fresh.state.rejected().collect::<Vec<_>>(), ["rejected a request with status 413 (of 1 requests)"]);
}

/// The texts in backquotes of the rows of a table that begin with a number, with their numbers. What follows `…` varies.
fn rows(table: &str) -> Vec<(Vec<u16>, Vec<&str>)> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| "));
    rows.filter_map(|row| {
        let (first, rest) = row.split_once(" | ")?;
        let numbers = first.split('`').next()?.split([',', ' ']);
        let numbers: Vec<u16> = numbers.filter_map(|number| number.parse().ok()).collect();
        // The reasons of close codes stand in the second column.
        let texts = if first.contains('`') { first } else { rest };
        let beginnings = texts.split('`').skip(1).step_by(2).map(|text| text.split('…').next().unwrap_or(text));
        (!numbers.is_empty()).then(|| (numbers, beginnings.collect()))
    })
    .collect()
}

#[test]
fn the_document_lists_every_error_and_nothing_else() {
    let document = include_str!("../../docs/errors.md");
    let section = |name: &str| document.split("\n## ").find(|section| section.starts_with(name)).expect("the section");
    let (responses, closes) = (rows(section("Responses")), rows(section("Close codes")));
    let more = [
        Error::Parameter { name: "mode", values: ["echo", "publish"] },
        Error::Parameter { name: "format", values: ["raw", "json"] },
        Error::TooMany { counter: Counter::Broadcasts, limit: 5 },
        Error::TooMany { counter: Counter::Tokens, limit: 5 },
        Error::Publish(PublishError::Rejected { status: 500 }),
        Error::Publish(PublishError::TimedOut),
        Error::PartlyPublished { published: 0, total: 1, error: PublishError::Rejected { status: 500 } },
        Error::PartlyPublished { published: 6, total: 10, error: PublishError::Rejected { status: 500 } },
        Error::Backend { name: "rooms".to_owned(), error: BackendError::Missing },
        Error::Backend { name: "rooms".to_owned(), error: BackendError::TooMany },
    ];
    let errors: Vec<Error> = all().into_iter().map(|(error, ..)| error).chain(more).collect();
    let is_in = |rows: &[(Vec<u16>, Vec<&str>)], number: u16, text: &str| {
        rows.iter()
            .any(|(numbers, texts)| numbers.contains(&number) && texts.iter().any(|begin| text.starts_with(begin)))
    };
    for error in &errors {
        let (code, reason) = error.close();
        let is_listed = is_in(&responses, error.status(), &error.to_string()) || is_in(&closes, code.get(), &reason);
        assert!(
            is_listed || matches!(error, Error::Rejected { .. }),
            "not in docs/errors.md: {} {error}",
            error.status()
        );
    }
    for (numbers, texts) in &responses {
        for begin in texts {
            let exists = |error: &Error| numbers.contains(&error.status()) && error.to_string().starts_with(begin);
            assert!(*begin == "Ok" || errors.iter().any(exists), "docs/errors.md lists {numbers:?} {begin}");
        }
    }
}
