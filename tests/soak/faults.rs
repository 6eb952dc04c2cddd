use crate::service::{Report, Size};
pub fn viceroy_restarts(_: &Size, _: &mut Report) {}
pub fn pushpin_restarts(_: &Size, _: &mut Report) {}
pub fn publishing_hangs(_: &Size, _: &mut Report) {}
pub fn publishing_is_refused(_: &Size, _: &mut Report) {}
