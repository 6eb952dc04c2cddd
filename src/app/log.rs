//! What the log says of rejected requests: on a developer's machine each of them, on Fastly how many there were of each kind when the
//! sandbox retires. Clients can cause as many as they like, and nobody acts on each.

use super::{platform::Platform, web::Response};

/// Takes the line for the log that is to be written now.
pub fn take_line(response: &mut Response, platform: &mut dyn Platform) -> Option<String> {
    let line = response.log.take();
    let Some(status) = response.error_of_client.filter(|_| !platform.is_local()) else { return line };
    let line = line.unwrap_or_else(|| format!("rejected a request with status {status}"));
    platform.state().count_rejected(line);
    None
}
