//! The code of an application.

use super::{broadcast::Broadcast, connection::Connection, rejection::Rejection};

type OnWebSocket<'h> = dyn Fn(&mut Connection<'_>) -> Result<(), Rejection> + 'h;
type OnBroadcast<'h> = dyn Fn(&mut Broadcast<'_>) -> Result<(), Rejection> + 'h;

/// A service: the code of an application, and all that serves it.
///
/// ```no_run
/// use fanout_edge::{Broadcast, Connection, Rejection, Service};
///
/// fn on_websocket(connection: &mut Connection<'_>) -> Result<(), Rejection> {
///     if connection.is_opening() {
///         connection.accept();
///     }
///     while let Some(message) = connection.receive() {
///         connection.send(message);
///     }
///     Ok(())
/// }
///
/// fn on_broadcast(broadcast: &mut Broadcast<'_>) -> Result<(), Rejection> {
///     if broadcast.content().len() > 1000 { Err(Rejection::new(413, "Keep it short")) } else { Ok(()) }
/// }
///
/// Service::new(on_websocket).on_broadcast(on_broadcast).serve();
/// ```
pub struct Service<'h> {
    pub(super) on_websocket: Box<OnWebSocket<'h>>,
    pub(super) on_broadcast: Option<Box<OnBroadcast<'h>>>,
}

impl<'h> Service<'h> {
    /// Returns a service that calls this function for WebSockets: for each batch of a client's messages, which is a request of its own:
    /// what the next one needs to know is the connection's [state](Connection::state). If it returns a [`Rejection`], nothing of the
    /// batch is published; what was sent to the client of an open connection before is delivered.
    pub fn new(on_websocket: impl Fn(&mut Connection<'_>) -> Result<(), Rejection> + 'h) -> Self {
        Self { on_websocket: Box::new(on_websocket), on_broadcast: None }
    }

    /// Returns self with a function that is called for each message that `POST /api/broadcast` is about to publish. It lets the
    /// message pass, changes it, or rejects it.
    #[must_use]
    pub fn on_broadcast(self, on_broadcast: impl Fn(&mut Broadcast<'_>) -> Result<(), Rejection> + 'h) -> Self {
        Self { on_broadcast: Some(Box::new(on_broadcast)), ..self }
    }
}
