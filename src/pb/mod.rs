//! The wire: messages and stubs of the crate `joblet-proto` (`protos/`), and the test that their numbers stay.
//!
//! Only the edges import this room; inside, a request is a `daemon::command::Command`, and a job a `job::JobView`.
//! The head of that crate says what is generated, and how.

pub use joblet_proto::*;

#[cfg(test)]
mod tests {
    use protobuf::MessageFull;

    use super::{ipc::MessageType, joblet::*, joblet_grpc, persist, persist_grpc};

    fn number<M: MessageFull>(field: &str) -> i32 {
        M::descriptor().field_by_name(field).expect(field).proto().number()
    }

    #[test]
    fn every_service_has_its_methods() {
        assert_eq!(joblet_grpc::ALL_METHODS.len(), 15 + 3 + 6 + 9 + 7 + 2 + 2 + 1 + 12);
        assert_eq!(joblet_grpc::ALL_METHODS[0], "/joblet.JobService/RunJob");
        assert_eq!(persist_grpc::ALL_METHODS.len(), 5);
        assert_eq!(
            persist_grpc::METHOD_PERSIST_SERVICE_QUERY_LOGS.name,
            "/joblet.persist.PersistService/QueryLogs"
        );
    }

    #[test]
    fn adopted_and_additional_fields_have_the_contract_numbers() {
        assert_eq!(number::<RunJobRequest>("timeout"), 21);
        assert_eq!(number::<RunJobRequest>("secret_environment"), 18);
        assert_eq!(number::<Job>("timeout"), 21);
        assert_eq!(number::<GetJobStatusRes>("timeout"), 27);
        assert_eq!(number::<GetJobStatusRes>("exit_reason"), 100);
        assert_eq!(number::<RunJobResponse>("plan"), 110);
        assert_eq!(number::<RunJobRequest>("stop_grace"), 102);
        assert_eq!(number::<RunJobRequest>("upload_handles"), 110);
        assert_eq!(number::<StopJobReq>("grace"), 100);
        assert_eq!(number::<FileUpload>("symlink_target"), 100);
        assert_eq!(number::<FileUpload>("path_bytes"), 101);
        assert_eq!(number::<DataChunk>("lost_bytes"), 103);
        assert_eq!(number::<GetJobLogsReq>("from_seq"), 106);
        assert_eq!(number::<EmptyRequest>("statuses"), 102);
        assert_eq!(number::<Jobs>("next_page_token"), 100);
        assert_eq!(number::<InstallRuntimeRequest>("registry_url"), 6);
        assert_eq!(number::<persist::Metric>("values"), 102);
        assert_eq!(MessageType::MESSAGE_TYPE_DELETE_JOB as i32, 103);
    }

    #[test]
    fn a_measurement_that_was_not_taken_is_absent() {
        assert_eq!(Job::new().cpu_time_usec, None);
        assert!(JobMetricsSample::new().cpu.is_none());
    }
}
