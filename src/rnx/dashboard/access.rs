//! Access. Every program and every page in a browser of this machine reaches a port of it, so a request must show that
//! it comes from the person who started rnx, and from our own pages.
//!
//! * The first address has a token, which is exchanged for a cookie that scripts cannot read and other sites cannot send;
//!   the browser goes on to the address without it. Programs send the token as `Authorization: Bearer`.
//! * `Host` must be an address that we listen at: a name of somebody else that resolves to 127.0.0.1 is not (DNS rebinding).
//! * `Origin` and `Sec-Fetch-Site` must be ours, where a browser sends them; a request that changes something and has the
//!   cookie must have an `Origin`, and JSON as its content, which no form of another site can send.

use std::net::SocketAddr;

use openssl::{memcmp, rand};

use super::super::error::{Error, Result};
use super::http::{Reply, Request};

/// Bytes of a token: nobody guesses 256 bits.
const TOKEN: usize = 32;

/// The tokens of one dashboard, and the names that it goes by.
#[derive(Debug)]
pub(crate) struct Access {
    token: String,
    cookie_name: String,
    cookie: String,
    hosts: Vec<String>,
}

impl Access {
    /// New tokens for the dashboard at this address.
    ///
    /// # Errors
    /// There is no randomness.
    pub(crate) fn new(address: SocketAddr) -> Result<Access> {
        let port = address.port();
        let mut hosts = vec![address.to_string(), format!("localhost:{port}")];
        if port == 80 {
            let ip = address.to_string();
            hosts.extend([ip.trim_end_matches(":80").to_owned(), "localhost".to_owned()]);
        }
        // Cookies of one host are shared by its ports.
        Ok(Access {
            token: random()?,
            cookie: random()?,
            cookie_name: format!("rnx_dashboard_{port}"),
            hosts,
        })
    }

    /// The address to begin with.
    pub(crate) fn first_address(&self) -> String {
        format!("http://{}/?token={}", self.hosts[0], self.token)
    }

    /// The answer to a request that goes no further: a refusal, or the way from the token to the cookie. `None`: it may pass.
    pub(super) fn stop(&self, request: &Request) -> Option<Reply> {
        let refuse = |why: &str| Some(Reply::text("403 Forbidden", why));
        if !request.header("host").is_some_and(|host| self.is_ours(host)) {
            return refuse("this is no address of the dashboard: use the one that rnx printed");
        }
        let origin = request.header("origin");
        if origin.is_some_and(|origin| !origin.strip_prefix("http://").is_some_and(|host| self.is_ours(host)))
        {
            return refuse("a page of another site asks");
        }
        let is_entry = request.path == "/" && request.method == "GET";
        let site = request.header("sec-fetch-site");
        if !is_entry && site.is_some_and(|site| !matches!(site, "same-origin" | "none")) {
            return refuse("a page of another site asks");
        }
        if is_entry && let Some(token) = request.query("token") {
            return Some(if equal(token, &self.token) { self.enter() } else { unknown() });
        }
        let bearer = request.header("authorization").and_then(|text| text.strip_prefix("Bearer "));
        let is_program = bearer.is_some_and(|token| equal(token, &self.token));
        if !is_program && !self.has_cookie(request) {
            return Some(unknown());
        }
        match request.method.as_str() {
            "GET" => None,
            "POST" if !is_program && origin.is_none() => refuse("a change needs the Origin of its page"),
            "POST" if !is_json(request) => Some(Reply::text(
                "415 Unsupported Media Type",
                "a change is sent with Content-Type: application/json",
            )),
            "POST" => None,
            _ => Some(
                Reply::text("405 Method Not Allowed", "there are GET and POST")
                    .with("Allow", "GET, POST".into()),
            ),
        }
    }

    fn enter(&self) -> Reply {
        let cookie = format!("{}={}; Path=/; HttpOnly; SameSite=Strict", self.cookie_name, self.cookie);
        Reply::text("303 See Other", "/").with("Location", "/".into()).with("Set-Cookie", cookie)
    }

    fn is_ours(&self, host: &str) -> bool {
        self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }

    fn has_cookie(&self, request: &Request) -> bool {
        let mut cookies = request.header("cookie").unwrap_or_default().split(';').map(str::trim);
        cookies.any(|cookie| {
            let value = cookie.strip_prefix(&self.cookie_name).and_then(|rest| rest.strip_prefix('='));
            value.is_some_and(|value| equal(value, &self.cookie))
        })
    }
}

fn unknown() -> Reply {
    Reply::text(
        "401 Unauthorized",
        "open the address that rnx dashboard printed: it has the token that lets you in",
    )
    .with("WWW-Authenticate", "Bearer".into())
}

fn is_json(request: &Request) -> bool {
    let kind = request.header("content-type").unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// Compares in a time that does not tell how much is right.
fn equal(given: &str, ours: &str) -> bool {
    given.len() == ours.len() && memcmp::eq(given.as_bytes(), ours.as_bytes())
}

fn random() -> Result<String> {
    let mut bytes = [0; TOKEN];
    rand::rand_bytes(&mut bytes)
        .map_err(|why| Error::Configure(format!("cannot make a token for the dashboard: {why}").into()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn access() -> Access {
        Access::new("127.0.0.1:7070".parse().unwrap()).unwrap()
    }

    fn request(method: &str, path: &str, headers: &[(&str, &str)]) -> Request {
        let mut all = vec![("host", "127.0.0.1:7070")];
        all.retain(|(name, _)| !headers.iter().any(|(given, _)| given == name));
        all.extend(headers);
        let headers = all.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Request { method: method.into(), path: path.into(), headers, ..Default::default() }
    }

    fn status(access: &Access, request: &Request) -> &'static str {
        access.stop(request).map_or("passes", |reply| &reply.status[..3])
    }

    #[test]
    fn token_is_exchanged_for_a_cookie_that_lets_in() {
        let access = access();
        let mut first = request("GET", "/", &[("sec-fetch-site", "cross-site")]);
        first.query = vec![("token".into(), access.token.clone())];
        let reply = access.stop(&first).unwrap();
        assert_eq!((reply.status, reply.extra[0].1.as_str()), ("303 See Other", "/"));
        let set = &reply.extra[1].1;
        assert!(
            set.ends_with("; Path=/; HttpOnly; SameSite=Strict") && !set.contains(&access.token),
            "{set}"
        );
        let cookie = set.split(';').next().unwrap();
        let later = format!("other=1; {cookie}");
        assert_eq!(status(&access, &request("GET", "/api/jobs", &[("cookie", &later)])), "passes");
        first.query[0].1.replace_range(..1, "x");
        assert_eq!(status(&access, &first), "401");
        first.path = "/api/jobs".into();
        first.headers.truncate(1);
        assert_eq!(status(&access, &first), "401", "a token in any other address is none");
    }

    #[test]
    fn requests_without_a_token_or_from_other_sites_are_refused() {
        let access = access();
        let cookie = format!("rnx_dashboard_7070={}", access.cookie);
        let cookie = ("cookie", cookie.as_str());
        let json = ("content-type", "application/json; charset=utf-8");
        let ours = ("origin", "http://localhost:7070");
        for (headers, get, post) in [
            (vec![], "401", "401"),
            (vec![("cookie", "rnx_dashboard_7070=x")], "401", "401"),
            (vec![cookie, json, ours], "passes", "passes"),
            (vec![cookie, json], "passes", "403"),
            (vec![cookie, ours, ("content-type", "text/plain")], "passes", "415"),
            (vec![cookie, ours], "passes", "415"),
            (vec![cookie, json, ("origin", "http://evil.example")], "403", "403"),
            (vec![cookie, json, ("origin", "null")], "403", "403"),
            (vec![cookie, json, ("origin", "https://localhost:7070")], "403", "403"),
            (vec![cookie, json, ours, ("sec-fetch-site", "cross-site")], "403", "403"),
            (vec![cookie, json, ours, ("sec-fetch-site", "same-site")], "403", "403"),
            (vec![cookie, json, ours, ("sec-fetch-site", "same-origin")], "passes", "passes"),
            (vec![cookie, json, ours, ("host", "evil.example:7070")], "403", "403"),
            (vec![cookie, json, ours, ("host", "127.0.0.1")], "403", "403"),
            (vec![cookie, json, ours, ("host", "LOCALHOST:7070")], "passes", "passes"),
        ] {
            assert_eq!(status(&access, &request("GET", "/api/jobs", &headers)), get, "GET {headers:?}");
            assert_eq!(status(&access, &request("POST", "/api/jobs", &headers)), post, "POST {headers:?}");
        }
        assert_eq!(status(&access, &request("DELETE", "/", &[cookie])), "405");
    }

    #[test]
    fn programs_send_the_token_as_bearer_and_need_no_origin() {
        let access = access();
        let bearer = format!("Bearer {}", access.token);
        let json = ("content-type", "application/json");
        let bearer = ("authorization", bearer.as_str());
        assert_eq!(status(&access, &request("POST", "/api/jobs", &[bearer, json])), "passes");
        let foreign = ("origin", "http://evil.example");
        assert_eq!(status(&access, &request("POST", "/api/jobs", &[bearer, json, foreign])), "403");
        assert_eq!(status(&access, &request("GET", "/", &[("authorization", "Bearer x")])), "401");
    }

    #[test]
    fn two_dashboards_share_no_token_and_no_cookie() {
        let (one, other) = (access(), Access::new("[::1]:7071".parse().unwrap()).unwrap());
        assert!(one.token != other.token && one.cookie != other.cookie && one.token != one.cookie);
        assert!(other.first_address().starts_with("http://[::1]:7071/?token="));
        assert_ne!(one.cookie_name, other.cookie_name);
    }
}
