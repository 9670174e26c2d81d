//! The handler of AuditService: the lines of the trail, as its files have them.

use std::io;
use std::sync::Arc;

use grpcio::{DuplexSink, RequestStream, RpcContext, RpcStatus, RpcStatusCode};

use super::stream;
use crate::api::limits::{CallLimits, Kind};
use crate::api::{StreamPump, status};
use crate::audit::{Audit, Query, Reader};
use crate::pb::joblet::{AuditLines, AuditQuery};
use crate::pb::joblet_grpc::AuditService;
use crate::stream::{Next, Source, Watermark};

/// The trail, as admins may read it.
#[derive(Clone)]
pub(in crate::api) struct Trail {
    pub(in crate::api) audit: Audit,
    pub(in crate::api) pump: StreamPump,
    pub(in crate::api) call_limits: CallLimits,
}

impl AuditService for Trail {
    fn get_audit(
        &mut self,
        ctx: RpcContext<'_>,
        req: RequestStream<AuditQuery>,
        sink: DuplexSink<AuditLines>,
    ) {
        let Trail { audit, pump, call_limits } = self.clone();
        let permit = call_limits.acquire(&ctx, Kind::Stream);
        let open = move |query: AuditQuery| {
            let wanted = Query {
                since_ns: query.since_ns,
                until_ns: query.until_ns,
                id: query.job,
                method: query.method,
                follow: query.follow,
            };
            let none = "this node keeps no audit trail: audit.enabled is false";
            let reader = audit.reader(wanted);
            reader.map(Lines).ok_or_else(|| status::new(RpcStatusCode::FAILED_PRECONDITION, none))
        };
        ctx.spawn(stream::follow_source(pump, permit, req, open, sink));
    }
}

/// The lines of one call.
struct Lines(Reader);

impl Source for Lines {
    type Item = AuditLines;
    type Error = RpcStatus;

    fn watermark(&self) -> &Arc<Watermark> {
        self.0.watermark()
    }

    fn next(&mut self) -> Result<Next<AuditLines>, RpcStatus> {
        let unreadable = |why: io::Error| {
            status::new(RpcStatusCode::INTERNAL, &format!("the audit trail cannot be read: {why}"))
        };
        let message = |lines| AuditLines { lines, ..AuditLines::default() };
        Ok(self.0.next().map_err(unreadable)?.map(message))
    }
}
