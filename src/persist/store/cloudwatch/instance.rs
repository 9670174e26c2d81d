//! The metadata service of an EC2 instance, version 2: a session token first, then everything else.
//!
//! Version 1 needs no token and is switched off on current images. Each request has one try of one second.
//! <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/configuring-instance-metadata-service.html>

use crate::job::Secret;

use super::environment::Environment;
use super::http::{FetchError, Http};

const DEFAULT: &str = "http://169.254.169.254";
/// Seconds that a session token is valid: the longest there is. It is used at once.
const TOKEN_TTL: &str = "21600";

/// A failure of the metadata service.
#[derive(Debug, thiserror::Error)]
pub(super) enum InstanceError {
    /// The service gives this process no session token.
    #[error(
        "the instance metadata service refuses a session token (HTTP 403): in a container raise the instance's \
         HttpPutResponseHopLimit to 2"
    )]
    NoToken,
    /// The instance has no role.
    #[error("the instance has no IAM role: attach an instance profile")]
    NoRole,
    /// A request failed.
    #[error("the instance metadata service: {0}")]
    Fetch(FetchError),
}

/// The address of the service; `None`: it is switched off by the environment.
pub(super) fn base(environment: &Environment) -> Option<String> {
    if environment.get("AWS_EC2_METADATA_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let base = environment.get("AWS_EC2_METADATA_SERVICE_ENDPOINT").unwrap_or(DEFAULT);
    Some(base.trim_end_matches('/').to_owned())
}

fn token(http: &Http, base: &str) -> Result<Secret, InstanceError> {
    let header = [("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL)];
    match http.fetch("PUT", &format!("{base}/latest/api/token"), &header) {
        Ok(token) => Ok(Secret::new(token)),
        Err(FetchError::Status(403)) => Err(InstanceError::NoToken),
        Err(e) => Err(InstanceError::Fetch(e)),
    }
}

fn get(http: &Http, base: &str, token: &Secret, path: &str) -> Result<String, InstanceError> {
    let header = [("x-aws-ec2-metadata-token", token.expose())];
    http.fetch("GET", &format!("{base}/latest/meta-data/{path}"), &header).map_err(InstanceError::Fetch)
}

/// The JSON text with the credentials of the instance's role.
pub(super) fn credentials(http: &Http, base: &str) -> Result<String, InstanceError> {
    let token = token(http, base)?;
    let roles = match get(http, base, &token, "iam/security-credentials/") {
        Err(InstanceError::Fetch(FetchError::Status(404))) => return Err(InstanceError::NoRole),
        other => other?,
    };
    let role =
        roles.lines().next().map(str::trim).filter(|role| !role.is_empty()).ok_or(InstanceError::NoRole)?;
    get(http, base, &token, &format!("iam/security-credentials/{role}"))
}

/// The region of the instance.
pub(super) fn region(http: &Http, base: &str) -> Result<String, InstanceError> {
    let token = token(http, base)?;
    Ok(get(http, base, &token, "placement/region")?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A metadata service that accepts version 2 only, or that refuses all tokens.
    fn service(refuses: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let mut peer = peer.unwrap();
                let mut request = vec![0; 4096];
                let length = peer.read(&mut request).unwrap();
                let request = String::from_utf8_lossy(&request[..length]).to_ascii_lowercase();
                let path = request.split(' ').nth(1).unwrap_or_default().to_owned();
                let tokened = request.contains("x-aws-ec2-metadata-token: tok");
                let (status, body) = match path.as_str() {
                    "/latest/api/token" if refuses || !request.starts_with("put") => (403, ""),
                    "/latest/api/token" if request.contains("ttl-seconds: 21600") => (200, "tok"),
                    _ if !tokened => (401, ""),
                    "/latest/meta-data/iam/security-credentials/" => (200, "role-1\n"),
                    "/latest/meta-data/iam/security-credentials/role-1" => (200, "{}"),
                    "/latest/meta-data/placement/region" => (200, "eu-central-1\n"),
                    _ => (404, ""),
                };
                let head = format!(
                    "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
                    body.len()
                );
                let _ = peer.write_all(format!("{head}{body}").as_bytes());
            }
        });
        base
    }

    #[test]
    fn role_and_region_are_read_with_a_session_token() {
        let (http, base) = (Http::new().unwrap(), service(false));
        assert_eq!(credentials(&http, &base).unwrap(), "{}");
        assert_eq!(region(&http, &base).unwrap(), "eu-central-1");
    }

    #[test]
    fn a_refused_token_names_the_hop_limit() {
        let error = credentials(&Http::new().unwrap(), &service(true)).unwrap_err();
        assert!(error.to_string().contains("HttpPutResponseHopLimit"), "{error}");
    }

    #[test]
    fn the_environment_moves_the_service_or_switches_it_off() {
        let of = |pairs: &[(&str, &str)]| base(&pairs.iter().copied().collect());
        assert_eq!(of(&[]).as_deref(), Some(DEFAULT));
        assert_eq!(of(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://a/")]).as_deref(), Some("http://a"));
        assert_eq!(of(&[("AWS_EC2_METADATA_DISABLED", "TRUE")]), None);
    }
}
