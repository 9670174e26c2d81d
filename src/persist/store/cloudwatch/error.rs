//! Errors of the CloudWatch store, and what a failed request means for the next one.

use std::io;
use std::path::PathBuf;

use crate::persist::store::StoreError;

/// A failure to store in CloudWatch or to read from it.
#[derive(Debug, thiserror::Error)]
pub enum CloudError {
    /// The HTTP client could not be made.
    #[error("cannot start the client of CloudWatch: {0}")]
    Client(io::Error),
    /// No source of the credential chain has any.
    #[error("cannot find AWS credentials: {0}")]
    Credentials(String),
    /// The local note of what CloudWatch has accepted could not be read or written.
    #[error("cannot keep the cursor {path}: {source}")]
    Cursor {
        /// The path of the file or its directory.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
    /// A request failed for good, or as often as one call may try.
    #[error("cannot {action}: {failure}")]
    Request {
        /// The attempt, with the name of the group, stream or metric.
        action: String,
        /// The answer of AWS, or the reason why there was none.
        failure: Failure,
    },
    /// The caller ended the wait.
    #[error("stopped while waiting for CloudWatch")]
    Stopped,
    /// The history of a job has more rows than one fetch may hold.
    #[error("cannot fetch the history of {job}: it has more than {most} events; read it with the AWS CLI")]
    TooLong {
        /// The id of the job.
        job: String,
        /// The most events that are fetched.
        most: usize,
    },
    /// The files that fetched output goes into could not be written.
    #[error("cannot keep fetched output: {0}")]
    Local(Box<StoreError>),
    /// The temporary file of a fetch could not be written or read.
    #[error("cannot keep fetched events in {path}: {source}")]
    Fetch {
        /// The directory of the file.
        path: PathBuf,
        /// The error of the system call.
        source: io::Error,
    },
}

impl From<StoreError> for CloudError {
    fn from(error: StoreError) -> Self {
        CloudError::Local(Box::new(error))
    }
}

/// The consequence of a failed request for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Throttling, a server error, a timeout, a broken connection: the same request may succeed later.
    Busy,
    /// The credentials have ended or are unknown: new ones may do.
    Expired,
    /// AWS does not permit the request, or there are no credentials: a person has to change something.
    Denied,
    /// The group or the stream does not exist.
    Missing,
    /// The group or the stream exists already.
    Exists,
    /// AWS will never accept this request.
    Invalid,
    /// The caller ended the wait.
    Stopped,
}

/// One failed request.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{code}: {message}")]
pub struct Failure {
    /// The consequence for the next request.
    pub kind: Kind,
    /// The name that AWS gives the error, or one of ours such as `timeout`.
    pub code: String,
    /// The explanation, one line, never with a secret.
    pub message: String,
}

/// The longest explanation that is kept of what AWS says.
const LONGEST: usize = 300;

impl Failure {
    /// A failure with a name of ours.
    pub(super) fn new(kind: Kind, code: &str, message: impl Into<String>) -> Failure {
        Failure { kind, code: code.to_owned(), message: message.into() }
    }

    /// Whether AWS had more requests than it takes.
    pub(super) fn is_throttling(&self) -> bool {
        let code = self.code.strip_suffix("Exception").unwrap_or(&self.code);
        code.contains("Throttl")
            || ["TooManyRequests", "LimitExceeded", "RequestLimitExceeded", "HTTP 429"].contains(&code)
    }

    /// Reads the answer to a request: a status, and a body in JSON (Logs) or XML (Metrics).
    pub(super) fn of_answer(status: u16, body: &[u8]) -> Failure {
        let body = String::from_utf8_lossy(body.get(..body.len().min(16 * 1024)).unwrap_or_default());
        let (code, message) = in_json(&body).or_else(|| in_xml(&body)).unwrap_or_default();
        let code = if code.is_empty() { format!("HTTP {status}") } else { code };
        Failure { kind: kind_of(status, &code), code, message: message.chars().take(LONGEST).collect() }
    }
}

fn in_json(body: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(body).ok()?;
    let code = value.get("__type").or_else(|| value.get("code"))?.as_str()?;
    let code = code.rsplit('#').next().unwrap_or(code).split(':').next().unwrap_or(code);
    let message = value.get("message").or_else(|| value.get("Message")).and_then(|m| m.as_str());
    Some((code.to_owned(), message.unwrap_or_default().to_owned()))
}

fn in_xml(body: &str) -> Option<(String, String)> {
    let element = |name: &str| {
        let begin = body.find(&format!("<{name}>"))? + name.len() + 2;
        let rest = body.get(begin..)?;
        rest.get(..rest.find(&format!("</{name}>"))?).map(str::to_owned)
    };
    Some((element("Code")?, element("Message").unwrap_or_default()))
}

fn kind_of(status: u16, code: &str) -> Kind {
    let code = code.strip_suffix("Exception").unwrap_or(code);
    match code {
        "Throttling"
        | "ThrottlingError"
        | "Throttled"
        | "RequestThrottled"
        | "TooManyRequests"
        | "LimitExceeded"
        | "RequestLimitExceeded"
        | "ServiceUnavailable"
        | "ServiceUnavailableError"
        | "InternalFailure"
        | "InternalServiceError"
        | "InternalServiceFault"
        | "OperationAborted"
        | "InvalidSequenceToken"
        | "RequestTimeout" => Kind::Busy,
        "ExpiredToken" | "UnrecognizedClient" | "InvalidClientTokenId" | "InvalidAccessKeyId" => {
            Kind::Expired
        }
        "ResourceNotFound" => Kind::Missing,
        "ResourceAlreadyExists" | "DataAlreadyAccepted" => Kind::Exists,
        "InvalidParameter"
        | "InvalidParameterValue"
        | "InvalidParameterCombination"
        | "MissingParameter"
        | "Validation"
        | "ValidationError"
        | "Serialization"
        | "InvalidFormat" => Kind::Invalid,
        _ if code.contains("Throttl") => Kind::Busy,
        _ if status == 413 => Kind::Invalid,
        _ if status == 401
            || status == 403
            || (400..500).contains(&status) && status != 408 && status != 429 =>
        {
            Kind::Denied
        }
        _ => Kind::Busy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(status: u16, body: &str) -> (Kind, String) {
        let failure = Failure::of_answer(status, body.as_bytes());
        (failure.kind, failure.code)
    }

    #[test]
    fn answers_in_json_and_xml_say_what_to_do_next() {
        let throttled = r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#;
        assert_eq!(kind(400, throttled), (Kind::Busy, "ThrottlingException".into()));
        let prefixed = r#"{"__type":"com.amazonaws.logs#ResourceNotFoundException","Message":"x"}"#;
        assert_eq!(kind(400, prefixed), (Kind::Missing, "ResourceNotFoundException".into()));
        let xml =
            "<ErrorResponse><Error><Type>Sender</Type><Code>Throttling</Code><Message>slow</Message></Error>";
        assert_eq!(kind(400, xml), (Kind::Busy, "Throttling".into()));
        assert_eq!(kind(503, "<html>no</html>"), (Kind::Busy, "HTTP 503".into()));
        assert_eq!(kind(400, r#"{"__type":"InvalidParameterException"}"#).0, Kind::Invalid);
        assert_eq!(kind(400, r#"{"__type":"AccessDeniedException"}"#).0, Kind::Denied);
        assert_eq!(kind(403, "<Error><Code>ExpiredToken</Code></Error>").0, Kind::Expired);
        assert_eq!(kind(400, r#"{"__type":"InvalidSignatureException"}"#).0, Kind::Denied);
    }

    #[test]
    fn a_long_answer_is_cut_and_an_odd_one_is_survived() {
        let long = format!(r#"{{"__type":"X","message":"{}"}}"#, "é".repeat(4000));
        assert_eq!(Failure::of_answer(500, long.as_bytes()).message.chars().count(), LONGEST);
        assert_eq!(kind(500, "<Code></Message>").1, "HTTP 500");
        assert_eq!(Failure::of_answer(429, &[0xff; 90_000]).kind, Kind::Busy);
    }
}
