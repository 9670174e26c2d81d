//! The AWS region: setting, environment, profile, instance, and a last resort.

use super::environment::Environment;
use super::http::Http;
use super::instance;
use super::profile;

/// The region of a host that has none.
const LAST_RESORT: &str = "us-east-1";

/// Finds the region and says where it came from.
pub(super) fn find(setting: &str, environment: &Environment, http: &Http) -> (String, &'static str) {
    if !setting.is_empty() {
        return (setting.to_owned(), "configuration");
    }
    if let Some(region) = environment.get("AWS_REGION").or_else(|| environment.get("AWS_DEFAULT_REGION")) {
        return (region.to_owned(), "environment");
    }
    // A broken file is reported when credentials are taken from it.
    if let Some(region) =
        profile::load(environment).unwrap_or_default().remove("region").filter(|r| !r.is_empty())
    {
        return (region, "profile");
    }
    let instance = instance::base(environment).and_then(|base| instance::region(http, &base).ok());
    match instance.filter(|region| is_name(region)) {
        Some(region) => (region, "instance"),
        None => (LAST_RESORT.to_owned(), "default"),
    }
}

/// A region becomes part of a host name.
fn is_name(region: &str) -> bool {
    (1..=64).contains(&region.len()) && region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_setting_wins_and_the_last_resort_is_documented() {
        let http = Http::new().unwrap();
        let of = |setting: &str, pairs: &[(&str, &str)]| {
            let off = [("AWS_EC2_METADATA_DISABLED", "true")];
            find(setting, &pairs.iter().copied().chain(off).collect(), &http)
        };
        let set = [("AWS_REGION", "eu-west-1")];
        assert_eq!(of("eu-central-1", &set), ("eu-central-1".into(), "configuration"));
        assert_eq!(of("", &set), ("eu-west-1".into(), "environment"));
        assert_eq!(of("", &[]), ("us-east-1".into(), "default"));
        assert!(is_name("us-gov-west-1") && !is_name("a.b") && !is_name(""));
    }
}
