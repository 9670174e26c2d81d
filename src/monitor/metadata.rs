//! The metadata services of clouds: region, zone, id and size of this machine.
//!
//! Asked once for the life of the process, by a thread of its own, where the firmware names the cloud and
//! `monitoring.cloud_detection` allows it. Plain HTTP to a link-local address; an answer of more than 64 KiB, or one that
//! takes more than [`PATIENCE`], is none.

use std::time::Duration;

use serde_json::Value;

use super::cloud::{Cloud, Provider};

/// Time for each request, connection included.
const PATIENCE: Duration = Duration::from_secs(1);
/// Bytes of an answer that are read.
const LONGEST: u64 = 64 << 10;
/// Most bytes of a field. It is shown as it came.
const FIELD: usize = 128;

/// The address of all these services.
pub(super) const SERVICE: &str = "http://169.254.169.254";

/// A value of the header that a service wants.
type Header<'a> = (&'static str, &'a str);

struct Service<'a> {
    base: &'a str,
    agent: ureq::Agent,
}

impl Service<'_> {
    fn get(&self, path: &str, header: Option<Header<'_>>) -> Option<String> {
        let mut request = self.agent.get(format!("{}{path}", self.base));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let mut answer = request.call().ok()?;
        answer.body_mut().with_config().limit(LONGEST).read_to_string().ok()
    }

    fn json(&self, path: &str, header: Option<Header<'_>>) -> Option<Value> {
        serde_json::from_str(&self.get(path, header)?).ok()
    }

    /// A session token of version 2. Version 1 needs none and is switched off on current images.
    fn token(&self) -> Option<String> {
        let request = self.agent.put(format!("{}/latest/api/token", self.base));
        let mut answer = request.header("x-aws-ec2-metadata-token-ttl-seconds", "60").send_empty().ok()?;
        answer.body_mut().with_config().limit(LONGEST).read_to_string().ok()
    }
}

/// Adds what the service at `base` tells to a cloud.
pub(super) fn complete(cloud: &mut Cloud, provider: Provider, base: &str) {
    let config = ureq::Agent::config_builder().timeout_global(Some(PATIENCE)).proxy(None).max_redirects(0);
    let service = Service { base, agent: config.build().into() };
    match provider {
        Provider::Aws => aws(cloud, &service),
        Provider::Azure => azure(cloud, &service),
        Provider::Gcp => gcp(cloud, &service),
        Provider::DigitalOcean => digital_ocean(cloud, &service),
        Provider::OpenStack | Provider::Hetzner => open_stack(cloud, &service),
        Provider::None => {}
    }
}

/// A field as text, cut; other kinds than texts and numbers are none.
fn text(value: &Value, field: &str) -> String {
    let found = match &value[field] {
        Value::String(found) => found.clone(),
        Value::Number(found) => found.to_string(),
        _ => String::new(),
    };
    cut(&found)
}

fn cut(text: &str) -> String {
    text.trim().chars().take(FIELD).collect()
}

/// <https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/instancedata-data-categories.html>
fn aws(cloud: &mut Cloud, service: &Service<'_>) {
    let Some(token) = service.token() else { return };
    let of = |path: &str| {
        let header = Some(("x-aws-ec2-metadata-token", token.trim()));
        service.get(&format!("/latest/meta-data/{path}"), header).map(|text| cut(&text)).unwrap_or_default()
    };
    cloud.region = of("placement/region");
    cloud.zone = of("placement/availability-zone");
    cloud.instance = of("instance-id");
    cloud.size = of("instance-type");
}

/// <https://learn.microsoft.com/azure/virtual-machines/instance-metadata-service>
fn azure(cloud: &mut Cloud, service: &Service<'_>) {
    let path = "/metadata/instance/compute?api-version=2021-02-01";
    let Some(found) = service.json(path, Some(("Metadata", "true"))) else { return };
    cloud.region = text(&found, "location");
    cloud.zone = text(&found, "zone");
    cloud.instance = text(&found, "vmId");
    cloud.size = text(&found, "vmSize");
}

/// <https://cloud.google.com/compute/docs/metadata/predefined-metadata-keys>
fn gcp(cloud: &mut Cloud, service: &Service<'_>) {
    let path = "/computeMetadata/v1/instance/?recursive=true";
    let Some(found) = service.json(path, Some(("Metadata-Flavor", "Google"))) else { return };
    // "projects/123/zones/europe-west1-b"
    let last = |field: &str| text(&found, field).rsplit('/').next().unwrap_or_default().to_owned();
    cloud.zone = last("zone");
    cloud.region = cloud.zone.rsplit_once('-').map(|(region, _)| region.to_owned()).unwrap_or_default();
    cloud.instance = text(&found, "id");
    cloud.size = last("machineType");
}

/// <https://docs.digitalocean.com/reference/api/metadata-api/>
fn digital_ocean(cloud: &mut Cloud, service: &Service<'_>) {
    let Some(found) = service.json("/metadata/v1.json", None) else { return };
    cloud.region = text(&found, "region");
    cloud.instance = text(&found, "droplet_id");
}

/// <https://docs.openstack.org/nova/latest/user/metadata.html>
fn open_stack(cloud: &mut Cloud, service: &Service<'_>) {
    if let Some(found) = service.json("/openstack/latest/meta_data.json", None) {
        cloud.zone = text(&found, "availability_zone");
        cloud.instance = text(&found, "uuid");
    }
    cloud.size =
        service.get("/latest/meta-data/instance-type", None).map(|text| cut(&text)).unwrap_or_default();
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A service that answers requests by their first line and header.
    fn service(answer: impl Fn(&str) -> Option<String> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for peer in listener.incoming() {
                let mut peer = peer.unwrap();
                let mut request = vec![0; 4096];
                let length = peer.read(&mut request).unwrap();
                let (status, body) =
                    match answer(&String::from_utf8_lossy(&request[..length]).to_ascii_lowercase()) {
                        Some(body) => (200, body),
                        None => (404, String::new()),
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

    fn told(provider: Provider, base: &str) -> [String; 4] {
        let mut cloud = Cloud::default();
        complete(&mut cloud, provider, base);
        [cloud.region, cloud.zone, cloud.instance, cloud.size]
    }

    #[test]
    fn machine_of_aws_needs_a_token() {
        let base = service(|request| {
            let tokened = request.contains("x-aws-ec2-metadata-token: tok");
            let path = request.split(' ').nth(1)?;
            let body = match path.strip_prefix("/latest/meta-data/") {
                None if request.starts_with("put /latest/api/token") => "tok",
                Some("placement/region") if tokened => "eu-central-1",
                Some("placement/availability-zone") if tokened => "eu-central-1a\n",
                Some("instance-id") if tokened => "i-1",
                Some("instance-type") if tokened => "m5.large",
                _ => return None,
            };
            Some(body.to_owned())
        });
        assert_eq!(told(Provider::Aws, &base), ["eu-central-1", "eu-central-1a", "i-1", "m5.large"]);
    }

    #[test]
    fn machines_of_other_clouds_tell_their_place() {
        let azure = r#"{"location":"westeurope","zone":"2","vmId":"v-1","vmSize":"Standard_D2s"}"#;
        let base = service(|request| request.contains("metadata: true").then(|| azure.to_owned()));
        assert_eq!(told(Provider::Azure, &base), ["westeurope", "2", "v-1", "Standard_D2s"]);
        let gcp = r#"{"id":42,"zone":"projects/1/zones/europe-west1-b","machineType":"projects/1/machineTypes/e2-medium"}"#;
        let base = service(|request| request.contains("metadata-flavor: google").then(|| gcp.to_owned()));
        assert_eq!(told(Provider::Gcp, &base), ["europe-west1", "europe-west1-b", "42", "e2-medium"]);
        let base = service(|_| Some(r#"{"region":"fra1","droplet_id":7}"#.to_owned()));
        assert_eq!(told(Provider::DigitalOcean, &base), ["fra1", "", "7", ""]);
        let stack = r#"{"availability_zone":"nova","uuid":"u-1"}"#;
        let base = service(|request| request.contains("meta_data.json").then(|| stack.to_owned()));
        assert_eq!(told(Provider::OpenStack, &base), ["", "nova", "u-1", ""]);
    }

    #[test]
    fn service_that_lies_or_is_silent_leaves_the_fields_empty() {
        let long = format!(r#"{{"region":"{}","droplet_id":[]}}"#, "x".repeat(1000));
        let base = service(move |_| Some(long.clone()));
        let [region, _, instance, _] = told(Provider::DigitalOcean, &base);
        assert_eq!((region.len(), instance.as_str()), (FIELD, ""));
        let base = service(|_| Some("x".repeat(LONGEST as usize + 1)));
        assert_eq!(told(Provider::Gcp, &base), ["", "", "", ""]);
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", silent.local_addr().unwrap());
        assert_eq!(told(Provider::Azure, &base), ["", "", "", ""]);
    }
}
