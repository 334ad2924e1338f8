//! The parts of the server that HTTP uses, and the values of `/metrics` that are read on request.

use crate::{
    Tls,
    context::ServerContext,
    driver::Driver,
    metrics::Snapshot,
    net::{door::Doors, lane::Lane},
};
use std::rc::Rc;

/// The parts of the server that responses are made from.
#[derive(Debug)]
pub(crate) struct Site {
    pub(super) context: Rc<ServerContext>,
    pub(super) driver: Rc<Driver>,
    pub(super) doors: Rc<Doors>,
    pub(super) lane: Rc<Lane>,
    /// One reference for each rejection that is being written, and this one.
    pub(super) rejections: Rc<()>,
}

impl Site {
    pub(crate) fn new(
        context: Rc<ServerContext>,
        driver: Rc<Driver>,
        doors: Rc<Doors>,
        lane: Rc<Lane>,
    ) -> Self {
        Self { context, driver, doors, lane, rejections: Rc::default() }
    }

    /// All metrics, in the text format of Prometheus.
    pub(super) fn metrics_text(&self) -> String {
        let registry = self.driver.registry();
        let (queues, budget) = (registry.queues(), registry.queues().budget());
        self.context.metrics().text(&Snapshot {
            hub: &self.driver.hub(),
            open: registry.count(),
            handshakes: self.doors.handshakes(),
            panics: self.doors.panics(),
            sent_bytes: queues.sent(),
            queued_bytes: budget.outbound(),
            inbound_bytes: budget.inbound(),
            http_bytes: budget.http(),
            latency: queues.latency(),
            largest_queue: registry.largest(),
            passwords: self.driver.passwords_waiting(),
            lane: self.lane.waiting(),
            certificate_end: self.context.config().tls.as_ref().and_then(Tls::not_after),
        })
    }
}
