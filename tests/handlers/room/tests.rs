use fanout_edge::testing::Test;
use fanout_edge::{Broadcast, Rejection, Service};

use super::on_websocket;

#[test]
fn alice_speaks_to_her_room() {
    let mut alice = Test::new(on_websocket).user("alice").connect("?channel=room1");
    assert_eq!(alice.subscriptions(), ["room1"]);
    alice.send("hi");
    assert_eq!(alice.published(), [("room1", "alice: hi")]);
    alice.send("/help");
    assert_eq!(alice.received(), ["Say something"]);
}

#[test]
fn strangers_stay_out() {
    let stranger = Test::new(on_websocket).connect("?channel=room1");
    assert_eq!(stranger.rejected(), Some((401, "Sign in")));
}

/// Keeps messages short, unless a server of ours sends them.
pub fn on_broadcast(broadcast: &mut Broadcast<'_>) -> Result<(), Rejection> {
    if broadcast.content().len() > 1000 && !broadcast.is_operator() {
        return Err(Rejection::new(413, "Keep it short: at most 1000 bytes"));
    }
    Ok(())
}

#[test]
fn only_servers_are_long() {
    let service = || Service::new(on_websocket).on_broadcast(on_broadcast);
    let long = "x".repeat(1001);
    let rejected = Test::of(service()).user("alice").broadcast("?channel=room1", &long);
    assert_eq!(rejected, Err((413, "Keep it short: at most 1000 bytes".to_owned())));
    let mut server = Test::of(service()).operator();
    assert!(server.broadcast("?channel=room1", &long).is_ok());
    assert_eq!(server.published(), [("room1", &*long)]);
}
