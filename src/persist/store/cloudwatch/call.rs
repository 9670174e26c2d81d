//! Requests to CloudWatch Logs and CloudWatch, one blocking call each, without retries.
//!
//! rusoto makes and signs the requests and reads the answers; [`Http`] carries them. rusoto knows no variant for
//! throttling and hides it in the raw answer, so a failed answer is kept as it came and read by [`Failure::of_answer`].

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::{Body, Request, StatusCode};
use rusoto_cloudwatch::{
    CloudWatch, CloudWatchClient, Datapoint, Dimension, GetMetricStatisticsInput, MetricDatum,
    PutMetricDataInput,
};
use rusoto_core::request::{
    DispatchSignedRequest, DispatchSignedRequestFuture, HttpDispatchError, HttpResponse,
};
use rusoto_core::signature::SignedRequest;
use rusoto_core::{ByteStream, Client, Region, RusotoError};
use rusoto_credential::{AwsCredentials, StaticProvider};
use rusoto_logs::{
    CloudWatchLogs, CloudWatchLogsClient, CreateLogGroupRequest, CreateLogStreamRequest,
    DeleteLogStreamRequest, GetLogEventsRequest, InputLogEvent, PutLogEventsRequest,
    PutRetentionPolicyRequest,
};

use crate::diag::{Level, event};

use super::backoff::Stop;
use super::counters::Counters;
use super::credentials::{Chain, Credentials};
use super::error::{Failure, Kind};
use super::http::Http;

/// The patience with one request, body included. A request carries 1 MiB at most.
const PATIENCE: Duration = Duration::from_secs(20);

/// One page of a stream.
#[derive(Debug, Default)]
pub(super) struct Page {
    /// The messages, in AWS's order.
    pub(super) messages: Vec<String>,
    /// The token of the next page; the same one again at the end.
    pub(super) next: Option<String>,
}

/// A range of time and the length of its points.
#[derive(Debug, Clone)]
pub(super) struct TimeRange {
    /// The first moment, s since the epoch.
    pub(super) from_s: i64,
    /// The first moment behind it.
    pub(super) to_s: i64,
    /// Seconds of each point.
    pub(super) period_s: i64,
}

/// The connection to AWS.
#[derive(Debug)]
pub(super) struct Aws {
    http: Arc<Http>,
    chain: Chain,
    held: Mutex<Option<Credentials>>,
    logs: Region,
    metrics: Region,
    pub(super) counters: Counters,
}

impl Aws {
    /// A connection to a region, or to `endpoint` where one is given. Nothing is sent yet.
    pub(super) fn new(http: Arc<Http>, chain: Chain, region: &str, endpoint: &str) -> Aws {
        // The list of regions that rusoto knows ends in 2022.
        let tail = if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
        let of = |service: &str| Region::Custom {
            name: region.to_owned(),
            endpoint: match endpoint {
                "" => format!("https://{service}.{region}.{tail}"),
                own => own.trim_end_matches('/').to_owned(),
            },
        };
        let (logs, metrics) = (of("logs"), of("monitoring"));
        Aws { http, chain, held: Mutex::new(None), logs, metrics, counters: Counters::default() }
    }

    /// The time of AWS, ms since the epoch.
    pub(super) fn now_ms(&self) -> i64 {
        self.http.now_ms()
    }

    /// Takes credentials from the chain, or those of before while they last.
    pub(super) fn credentials(&self) -> Result<Credentials, Failure> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.http.now_ms();
        if let Some(credentials) = held.as_ref().filter(|credentials| credentials.are_fresh(now)) {
            return Ok(credentials.clone());
        }
        match self.chain.find() {
            Ok(credentials) => {
                event!(Level::Info, "AWS credentials found", source = credentials.source);
                *held = Some(credentials.clone());
                Ok(credentials)
            }
            // The service may be away for a moment, and the old ones last a few minutes more.
            Err(why) => match held.as_ref().filter(|old| old.ends_ms.is_none_or(|end| now < end)) {
                Some(old) => Ok(old.clone()),
                None => Err(Failure::new(Kind::Denied, "credentials", why)),
            },
        }
    }

    fn call<T, E, F>(&self, stop: &Stop, request: impl FnOnce(Client) -> F) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, RusotoError<E>>>,
        E: std::error::Error + 'static,
    {
        let credentials = self.credentials()?;
        let token = credentials.token.as_ref().map(|token| token.expose().to_owned());
        let keys = AwsCredentials::new(credentials.id.as_str(), credentials.secret.expose(), token, None);
        let seen = Arc::new(Mutex::new(None));
        let carrier = Carrier { http: self.http.clone(), seen: seen.clone() };
        self.counters.requests.add(1);
        let client = Client::new_with(StaticProvider::from(keys), carrier);
        let error = match self.http.wait(PATIENCE, stop, request(client))? {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        let seen = seen.lock().unwrap_or_else(PoisonError::into_inner).take();
        let failure = seen.unwrap_or_else(|| of_rusoto(&error));
        self.counters.throttled.add(u64::from(failure.is_throttling()));
        Err(self.explain(failure, &credentials))
    }

    /// Makes a failure fit for the log and draws the conclusions for the credentials.
    fn explain(&self, mut failure: Failure, credentials: &Credentials) -> Failure {
        // Behind the first line AWS repeats the signed header, session token included.
        let line = failure.message.lines().next().unwrap_or_default();
        failure.message = credentials.scrub(line);
        if matches!(failure.kind, Kind::Expired | Kind::Denied) {
            *self.held.lock().unwrap_or_else(PoisonError::into_inner) = None;
            if let Some(ahead) = self.http.clock_ahead_ms() {
                let seconds = ahead.abs() / 1000;
                failure.message += &format!(" (the clock of this host differs from AWS's by {seconds} s)");
            }
        }
        failure
    }

    fn logs(&self, client: Client) -> CloudWatchLogsClient {
        CloudWatchLogsClient::new_with_client(client, self.logs.clone())
    }

    fn metrics(&self, client: Client) -> CloudWatchClient {
        CloudWatchClient::new_with_client(client, self.metrics.clone())
    }

    /// Creates the log group (CreateLogGroup).
    pub(super) fn create_group(&self, stop: &Stop, group: &str) -> Result<(), Failure> {
        let input = CreateLogGroupRequest { log_group_name: group.to_owned(), ..Default::default() };
        self.call(stop, |client| {
            let logs = self.logs(client);
            async move { logs.create_log_group(input).await }
        })
    }

    /// Calls PutRetentionPolicy for a group.
    pub(super) fn put_retention(&self, stop: &Stop, group: &str, days: i64) -> Result<(), Failure> {
        let input = PutRetentionPolicyRequest { log_group_name: group.to_owned(), retention_in_days: days };
        self.call(stop, |client| {
            let logs = self.logs(client);
            async move { logs.put_retention_policy(input).await }
        })
    }

    /// Calls CreateLogStream in a group.
    pub(super) fn create_stream(&self, stop: &Stop, group: &str, stream: &str) -> Result<(), Failure> {
        let input =
            CreateLogStreamRequest { log_group_name: group.to_owned(), log_stream_name: stream.to_owned() };
        self.call(stop, |client| {
            let logs = self.logs(client);
            async move { logs.create_log_stream(input).await }
        })
    }

    /// Calls DeleteLogStream in a group.
    pub(super) fn delete_stream(&self, stop: &Stop, group: &str, stream: &str) -> Result<(), Failure> {
        let input =
            DeleteLogStreamRequest { log_group_name: group.to_owned(), log_stream_name: stream.to_owned() };
        self.call(stop, |client| {
            let logs = self.logs(client);
            async move { logs.delete_log_stream(input).await }
        })
    }

    /// Calls PutLogEvents with times in ms; false: AWS has stored some of them and rejected others for their time.
    pub(super) fn put_events(
        &self,
        stop: &Stop,
        group: &str,
        stream: &str,
        events: Vec<(i64, String)>,
    ) -> Result<bool, Failure> {
        let event = |(timestamp, message)| InputLogEvent { message, timestamp };
        let input = PutLogEventsRequest {
            log_events: events.into_iter().map(event).collect(),
            log_group_name: group.to_owned(),
            log_stream_name: stream.to_owned(),
            sequence_token: None,
        };
        let answer = self.call(stop, |client| {
            let logs = self.logs(client);
            async move { logs.put_log_events(input).await }
        })?;
        Ok(answer.rejected_log_events_info.is_none())
    }

    /// Calls GetLogEvents, oldest first; `token` is that of the page before.
    pub(super) fn get_events(
        &self,
        stop: &Stop,
        group: &str,
        stream: &str,
        token: Option<String>,
    ) -> Result<Page, Failure> {
        let input = GetLogEventsRequest {
            log_group_name: group.to_owned(),
            log_stream_name: stream.to_owned(),
            next_token: token,
            start_from_head: Some(true),
            ..Default::default()
        };
        let answer = self.call(stop, |client| {
            let logs = self.logs(client);
            async move { logs.get_log_events(input).await }
        })?;
        let messages =
            answer.events.unwrap_or_default().into_iter().filter_map(|event| event.message).collect();
        Ok(Page { messages, next: answer.next_forward_token })
    }

    /// Calls PutMetricData in a namespace.
    pub(super) fn put_data(
        &self,
        stop: &Stop,
        namespace: &str,
        data: Vec<MetricDatum>,
    ) -> Result<(), Failure> {
        let input = PutMetricDataInput { metric_data: data, namespace: namespace.to_owned() };
        self.call(stop, |client| {
            let metrics = self.metrics(client);
            async move { metrics.put_metric_data(input).await }
        })
    }

    /// Calls GetMetricStatistics with all five statistics. The points come in any order.
    pub(super) fn get_statistics(
        &self,
        stop: &Stop,
        namespace: &str,
        name: &str,
        dimensions: Vec<Dimension>,
        range: &TimeRange,
    ) -> Result<Vec<Datapoint>, Failure> {
        let statistics = ["SampleCount", "Average", "Sum", "Minimum", "Maximum"];
        let input = GetMetricStatisticsInput {
            dimensions: Some(dimensions),
            start_time: rfc3339(range.from_s),
            end_time: rfc3339(range.to_s),
            metric_name: name.to_owned(),
            namespace: namespace.to_owned(),
            period: range.period_s,
            statistics: Some(statistics.map(str::to_owned).to_vec()),
            ..Default::default()
        };
        let answer = self.call(stop, |client| {
            let metrics = self.metrics(client);
            async move { metrics.get_metric_statistics(input).await }
        })?;
        Ok(answer.datapoints.unwrap_or_default())
    }
}

/// Seconds since the epoch as CloudWatch wants them.
pub(super) fn rfc3339(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::UNIX_EPOCH).to_string()
}

fn of_rusoto<E: std::error::Error + 'static>(error: &RusotoError<E>) -> Failure {
    match error {
        RusotoError::HttpDispatch(error) => Failure::new(Kind::Busy, "connection", error.to_string()),
        RusotoError::Credentials(error) => Failure::new(Kind::Denied, "credentials", error.message.clone()),
        RusotoError::Validation(why) => Failure::new(Kind::Invalid, "validation", why.clone()),
        RusotoError::Unknown(answer) => Failure::of_answer(answer.status.as_u16(), &answer.body),
        // A proxy or a portal in between may answer anything with status 200.
        RusotoError::ParseError(_) => Failure::new(Kind::Busy, "answer", "it is not one of CloudWatch"),
        other => Failure::new(Kind::Busy, "service", other.to_string()),
    }
}

/// Carries rusoto's signed requests and remembers the answer to a failed one.
struct Carrier {
    http: Arc<Http>,
    seen: Arc<Mutex<Option<Failure>>>,
}

impl DispatchSignedRequest for Carrier {
    fn dispatch(&self, request: SignedRequest, _timeout: Option<Duration>) -> DispatchSignedRequestFuture {
        let (http, seen) = (self.http.clone(), self.seen.clone());
        Box::pin(async move {
            let request = as_hyper(request).map_err(HttpDispatchError::new)?;
            let answer = http.exchange(request).await.map_err(HttpDispatchError::new)?;
            if answer.status >= 300 {
                let failure = Failure::of_answer(answer.status, &answer.body);
                *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(failure);
            }
            Ok(HttpResponse {
                status: StatusCode::from_u16(answer.status).unwrap_or(StatusCode::BAD_GATEWAY),
                body: ByteStream::from(answer.body),
                headers: answer.header,
            })
        })
    }
}

/// The request as hyper wants it. Texts of errors name no value, which may be a secret.
fn as_hyper(request: SignedRequest) -> Result<Request<Body>, String> {
    let query = request.canonical_query_string();
    let question = if query.is_empty() { "" } else { "?" };
    let place = format!("{}://{}", request.scheme(), request.hostname());
    let uri = format!("{place}{}{question}{query}", request.canonical_path());
    let mut made = Request::builder().method(request.method()).uri(uri);
    for (name, values) in request.headers() {
        for value in values {
            made = made.header(name.as_str(), value.as_slice());
        }
    }
    let body = request.payload.map_or_else(Body::empty, |payload| payload.into_body());
    made.body(body).map_err(|_| format!("cannot make a request to {place}"))
}

/// The dimensions of a job's metrics, with those of the configuration.
pub(super) fn dimensions<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<Dimension> {
    pairs
        .into_iter()
        .map(|(name, value)| Dimension { name: name.to_owned(), value: value.to_owned() })
        .collect()
}
