//! The chain of credential sources: environment, shared files, container, instance.
//!
//! The first source that is present decides; one that is present and broken is an error, not a reason to take another
//! identity. Credentials are taken anew five minutes before they end, or when AWS says that they have ended.

use std::fmt;
use std::sync::Arc;

use serde::Deserialize;

use crate::job::Secret;

use super::environment::Environment;
use super::http::{FetchError, Http};
use super::instance;
use super::profile;

/// Credentials that have this long left are taken anew.
const RENEW_MS: i64 = 5 * 60 * 1000;

/// Keys to sign requests with.
#[derive(Clone)]
pub(super) struct Credentials {
    /// The id of the access key.
    pub(super) id: String,
    /// The secret access key.
    pub(super) secret: Secret,
    /// The session token of temporary credentials.
    pub(super) token: Option<Secret>,
    /// When they end, ms since the epoch; `None`: they do not.
    pub(super) ends_ms: Option<i64>,
    /// The source, for the log.
    pub(super) source: &'static str,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials")
            .field("source", &self.source)
            .field("ends_ms", &self.ends_ms)
            .finish_non_exhaustive()
    }
}

impl Credentials {
    /// Whether they can sign for a while.
    pub(super) fn are_fresh(&self, now_ms: i64) -> bool {
        self.ends_ms.is_none_or(|end| now_ms < end - RENEW_MS)
    }

    /// The text without the secrets, should it hold one.
    pub(super) fn scrub(&self, text: &str) -> String {
        let secrets = [Some(&self.secret), self.token.as_ref()];
        let mut text = text.to_owned();
        for secret in secrets.into_iter().flatten().map(Secret::expose).filter(|secret| !secret.is_empty()) {
            text = text.replace(secret, "***");
        }
        text
    }
}

/// The sources of credentials.
#[derive(Debug)]
pub(super) struct Chain {
    http: Arc<Http>,
    environment: Environment,
}

/// The answer of a container's or an instance's credential service.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceAnswer {
    access_key_id: String,
    secret_access_key: String,
    token: Option<String>,
    expiration: Option<String>,
}

/// Reads the answer of a credential service.
pub(super) fn served(text: &str, source: &'static str) -> Result<Credentials, String> {
    // The error of the parser may quote the text.
    let served: ServiceAnswer =
        serde_json::from_str(text).map_err(|_| "the answer holds no credentials".to_owned())?;
    let ends_ms = match served.expiration {
        Some(end) => {
            let end: jiff::Timestamp =
                end.parse().map_err(|_| "the answer has no readable expiration".to_owned())?;
            Some(end.as_millisecond())
        }
        None => None,
    };
    Ok(Credentials {
        id: served.access_key_id,
        secret: Secret::new(served.secret_access_key),
        token: served.token.map(Secret::new),
        ends_ms,
        source,
    })
}

impl Chain {
    /// The chain over this environment.
    pub(super) fn new(http: Arc<Http>, environment: Environment) -> Chain {
        Chain { http, environment }
    }

    /// Asks the sources in their order.
    ///
    /// # Errors
    /// The text says which source failed, or that there is none.
    pub(super) fn find(&self) -> Result<Credentials, String> {
        let sources = [Chain::environment, Chain::files, Chain::container, Chain::instance];
        for source in sources {
            if let Some(credentials) = source(self)? {
                return Ok(credentials);
            }
        }
        Err("AWS_ACCESS_KEY_ID is not set, ~/.aws/credentials has no profile, and this is neither a container nor an \
             instance of AWS with a role"
            .into())
    }

    fn environment(&self) -> Result<Option<Credentials>, String> {
        let get = |name| self.environment.get(name);
        let Some(id) = get("AWS_ACCESS_KEY_ID") else {
            let has_token = get("AWS_WEB_IDENTITY_TOKEN_FILE").is_some();
            return if has_token { Err(unsupported("AWS_WEB_IDENTITY_TOKEN_FILE is set")) } else { Ok(None) };
        };
        let secret = get("AWS_SECRET_ACCESS_KEY")
            .ok_or("AWS_ACCESS_KEY_ID is set and AWS_SECRET_ACCESS_KEY is not")?;
        Ok(Some(Credentials {
            id: id.to_owned(),
            secret: Secret::new(secret),
            token: get("AWS_SESSION_TOKEN").map(Secret::new),
            ends_ms: None,
            source: "environment",
        }))
    }

    fn files(&self) -> Result<Option<Credentials>, String> {
        let profile = profile::load(&self.environment)?;
        let get = |name: &str| profile.get(name).filter(|value| !value.is_empty());
        // A role comes before keys of the same profile: those are for assuming it.
        for key in ["role_arn", "sso_session", "sso_start_url"] {
            if get(key).is_some() {
                return Err(unsupported(&format!("the profile has {key}")));
            }
        }
        if let Some(id) = get("aws_access_key_id") {
            let secret = get("aws_secret_access_key").ok_or("the profile has no aws_secret_access_key")?;
            return Ok(Some(Credentials {
                id: id.clone(),
                secret: Secret::new(secret),
                token: get("aws_session_token").map(Secret::new),
                ends_ms: None,
                source: "profile",
            }));
        }
        match get("credential_process") {
            Some(_) => Err(unsupported("the profile has credential_process")),
            None => Ok(None),
        }
    }

    fn container(&self) -> Result<Option<Credentials>, String> {
        let get = |name| self.environment.get(name);
        let url = match (
            get("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
            get("AWS_CONTAINER_CREDENTIALS_FULL_URI"),
        ) {
            (Some(path), _) => format!("http://169.254.170.2{path}"),
            (None, Some(url)) => checked(url)?,
            (None, None) => return Ok(None),
        };
        let token = match get("AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
            Some(path) => {
                let text = std::fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
                Some(Secret::new(text.trim()))
            }
            None => get("AWS_CONTAINER_AUTHORIZATION_TOKEN").map(Secret::new),
        };
        let header: Vec<_> = token.iter().map(|token| ("authorization", token.expose())).collect();
        let text =
            self.http.fetch("GET", &url, &header).map_err(|e| format!("the container's service: {e}"))?;
        served(&text, "container").map(Some).map_err(|e| format!("the container's service: {e}"))
    }

    fn instance(&self) -> Result<Option<Credentials>, String> {
        let Some(base) = instance::base(&self.environment) else { return Ok(None) };
        match instance::credentials(&self.http, &base) {
            Ok(text) => {
                served(&text, "instance").map(Some).map_err(|e| format!("the instance metadata service: {e}"))
            }
            // No service at all: not an instance.
            Err(instance::InstanceError::Fetch(FetchError::Silent(_))) => Ok(None),
            Err(e) => Err(e.to_string()),
        }
    }
}

/// A source that others have, in words, with the remedy.
fn unsupported(what: &str) -> String {
    format!(
        "{what}, which persist does not support; put aws_access_key_id and aws_secret_access_key into a profile that \
         AWS_PROFILE names, or give the instance or the container a role (EKS Pod Identity)"
    )
}

/// A credential service is on this host, on one of AWS's own addresses, or speaks TLS: nobody else may see the token.
fn checked(url: &str) -> Result<String, String> {
    let host = url.strip_prefix("http://").map(|rest| rest.split(['/', '?']).next().unwrap_or_default());
    let allowed = match host {
        None => url.starts_with("https://"),
        Some(host) => {
            let name = host.rsplit_once(':').filter(|(_, port)| port.bytes().all(|b| b.is_ascii_digit()));
            let name = name.map_or(host, |(name, _)| name);
            let own = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost", "[::1]"];
            own.contains(&name)
                || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
        }
    };
    if !allowed {
        return Err("AWS_CONTAINER_CREDENTIALS_FULL_URI names another host without https".into());
    }
    Ok(url.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(pairs: &[(&str, &str)]) -> Result<Credentials, String> {
        let off = [("AWS_EC2_METADATA_DISABLED", "true")];
        let environment = pairs.iter().copied().chain(off).collect();
        Chain::new(Http::new().unwrap(), environment).find()
    }

    #[test]
    fn the_environment_comes_first_and_half_of_it_is_an_error() {
        let keys =
            [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "hunter2"), ("AWS_SESSION_TOKEN", "T")];
        let found = find(&keys).unwrap();
        assert_eq!((found.id.as_str(), found.secret.expose(), found.source), ("A", "hunter2", "environment"));
        assert!(!format!("{found:?}").contains("hunter2"));
        assert_eq!(found.scrub("x hunter2 T"), "x *** ***");
        assert!(find(&keys[..1]).unwrap_err().contains("AWS_SECRET_ACCESS_KEY is not"));
        assert!(find(&[]).unwrap_err().contains("neither a container"));
    }

    #[test]
    fn a_profile_with_keys_is_used_and_others_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("c");
        let path = file.to_str().unwrap();
        std::fs::write(&file, "[default]\naws_access_key_id=A\naws_secret_access_key=B\n").unwrap();
        let found = find(&[("AWS_SHARED_CREDENTIALS_FILE", path)]).unwrap();
        assert_eq!((found.id.as_str(), found.source), ("A", "profile"));
        for key in ["credential_process", "role_arn", "sso_session", "sso_start_url"] {
            let keys = if key == "credential_process" { "" } else { "aws_access_key_id=A\n" };
            std::fs::write(&file, format!("[default]\n{keys}{key}=/bin/x\n")).unwrap();
            let refusal = find(&[("AWS_SHARED_CREDENTIALS_FILE", path)]).unwrap_err();
            assert!(refusal.contains(key) && refusal.contains("AWS_PROFILE"), "{refusal}");
        }
        let refusal = find(&[("AWS_WEB_IDENTITY_TOKEN_FILE", "/t"), ("AWS_ROLE_ARN", "r")]).unwrap_err();
        assert!(refusal.contains("AWS_WEB_IDENTITY_TOKEN_FILE"), "{refusal}");
    }

    #[test]
    fn a_token_is_sent_to_no_strange_host() {
        for good in [
            "http://127.0.0.1:80/a",
            "http://localhost/",
            "http://[::1]:1/",
            "https://x.example/",
            "http://169.254.170.23/v1",
        ] {
            assert!(checked(good).is_ok(), "{good}");
        }
        for bad in [
            "http://10.0.0.1/",
            "http://169.254.170.2.example/",
            "ftp://x/",
            "http://user@127.0.0.1/",
            "http://",
        ] {
            assert!(checked(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn served_credentials_end_and_are_renewed_before() {
        let text =
            r#"{"AccessKeyId":"A","SecretAccessKey":"B","Token":"C","Expiration":"2026-01-02T03:04:05Z"}"#;
        let found = served(text, "container").unwrap();
        let end = 1_767_323_045_000;
        assert_eq!(found.ends_ms, Some(end));
        assert!(found.are_fresh(end - RENEW_MS - 1) && !found.are_fresh(end - RENEW_MS));
        let bad = r#"{"AccessKeyId":"A","SecretAccessKey":"hunter2","Expiration":"soon"}"#;
        assert!(!served(bad, "container").unwrap_err().contains("hunter2"));
        assert!(served("hunter2", "container").is_err());
    }
}
