//! The variables of the environment that override keys of the file.

use super::{DaemonConfig, LogFormat, LogLevel};
use crate::config::search::Environment;
use crate::config::{ConfigError, values};

impl DaemonConfig {
    /// Puts the values of `JOBLET_*` variables in the place of the file's.
    pub(super) fn override_from(&mut self, env: Environment<'_>) -> Result<(), ConfigError> {
        let wrong = |name| move |why| ConfigError::Override { name, why };
        if let Some(address) = env("JOBLET_SERVER_ADDRESS") {
            self.server.address = address;
        }
        if let Some(port) = env("JOBLET_SERVER_PORT") {
            self.server.port = values::parse_port(&port).map_err(wrong("JOBLET_SERVER_PORT"))?;
        }
        if let Some(id) = env("JOBLET_NODE_ID") {
            self.server.node_id = id;
        }
        if let Some(jobs) = env("JOBLET_MAX_JOBS") {
            let why = format!("{:?} is not a number of jobs", jobs);
            let number = jobs.parse().map_err(|_| why);
            self.joblet.max_concurrent_jobs = number.map_err(wrong("JOBLET_MAX_JOBS"))?;
        }
        if let Some(level) = env("JOBLET_LOG_LEVEL") {
            self.logging.level = LogLevel::parse(&level).map_err(wrong("JOBLET_LOG_LEVEL"))?;
        }
        if let Some(format) = env("JOBLET_LOG_FORMAT") {
            self.logging.format = match format.as_str() {
                "text" => LogFormat::Text,
                "json" => LogFormat::Json,
                _ => return Err(wrong("JOBLET_LOG_FORMAT")(format!("{format:?} is neither text nor json"))),
            };
        }
        Ok(())
    }
}
