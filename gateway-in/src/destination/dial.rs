//! The one place where an association to a destination is opened: by sends, probes and echoes alike, so that what holds for
//! one of them (TLS, time-outs, PDU sizes) holds for all.

use std::{sync::LazyLock, time::Duration};

use base::{AeTitle, Uid};
use dimse::{ConnectError, Requestor, RequestorConfig, Tracer, Watching};

use crate::config::DicomTarget;

/// What passes on all associations to destinations. Of the process, not of its settings: a reload makes others of these, and the wire
/// stays what it is.
static TRACER: LazyLock<Tracer> = LazyLock::new(Tracer::default);

/// Shows what passes on associations to destinations.
pub(crate) fn tracer() -> &'static Tracer {
    &TRACER
}

/// An association with these presentation contexts. `within` cuts the destination's own time-outs short.
pub(crate) async fn dial(
    target: &DicomTarget,
    calling: AeTitle,
    contexts: Vec<(Uid, Uid)>,
    within: Duration,
) -> Result<Requestor, ConnectError> {
    let config = RequestorConfig {
        connect_timeout: target.connect_timeout.min(within),
        response_timeout: target.response_timeout.min(within),
        max_pdu_sent: target.max_pdu,
        user_identity: target.proposes.user_identity.now().as_ref().clone(),
        async_window: target.proposes.async_window,
        onlooker: Watching(Some(TRACER.onlooker(target.address))),
        ..RequestorConfig::new(calling, target.ae.clone(), contexts)
    };
    target.dialer.dial(target.address, config).await
}
