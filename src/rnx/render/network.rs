//! Networks, as texts and as JSON.

use serde::Serialize;

use super::super::terminal::one_line;
use super::fit::aligned;
use super::words::short;
use crate::pb::joblet::{CreateNetworkRes, GetNetworkRes, Network, NetworkJob, Networks};

/// The answer to `network create`.
pub(crate) fn created(made: &CreateNetworkRes) -> String {
    let name = one_line(&made.name);
    let reach = if made.internal { "each other" } else { "each other and the outside" };
    format!(
        "Network created successfully:\n  Name: {name}\n  CIDR: {}\n  Bridge: {}\n  Jobs reach: {reach}\n\
         Use it with: rnx job run --network {name} <command>\n",
        one_line(&made.cidr),
        one_line(&made.bridge)
    )
}

/// The answer to `network remove`.
pub(crate) fn removed(name: &str) -> String {
    format!("Network '{}' removed successfully\n", one_line(name))
}

/// Whether the node itself has the network.
fn is_built_in(network: &Network) -> bool {
    network.created_time.is_empty()
}

/// The table of `network list`.
pub(crate) fn list(networks: &[Network]) -> String {
    if networks.is_empty() {
        return "No networks found\n".to_owned();
    }
    let row = |network: &Network| {
        let mark = if is_built_in(network) { " (built-in)" } else { "" };
        let reach = if network.internal { "internal" } else { "outside" };
        [
            format!("{}{mark}", one_line(&network.name)),
            one_line(&network.cidr),
            one_line(&network.bridge),
            reach.to_owned(),
            network.jobCount.to_string(),
        ]
    };
    let head = ["NAME", "CIDR", "BRIDGE", "REACH", "JOBS"].map(str::to_owned);
    aligned(std::iter::once(head).chain(networks.iter().map(row)).collect())
}

/// The text of `network inspect`.
pub(crate) fn shown(found: &GetNetworkRes) -> String {
    let mut text = list(std::slice::from_ref(found.network.get_or_default()));
    if found.jobs.is_empty() {
        return text;
    }
    let row = |job: &NetworkJob| {
        let or_dash = |text: &str| if text.is_empty() { "-".to_owned() } else { one_line(text) };
        let both = [job.address.as_str(), job.address6.as_str()].join(" ");
        [one_line(short(&job.uuid)), or_dash(&job.name), or_dash(both.trim_end())]
    };
    let head = ["JOB", "NAME", "ADDRESS"].map(str::to_owned);
    text.push('\n');
    text.push_str(&aligned(std::iter::once(head).chain(found.jobs.iter().map(row)).collect()));
    text
}

/// A network in JSON.
#[derive(Debug, Serialize)]
pub(crate) struct NetworkJson<'a> {
    name: &'a str,
    cidr: &'a str,
    bridge: &'a str,
    internal: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    builtin: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    jobs: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    created_time: Option<&'a str>,
}

fn network_json(network: &Network) -> NetworkJson<'_> {
    NetworkJson {
        name: &network.name,
        cidr: &network.cidr,
        bridge: &network.bridge,
        internal: network.internal,
        builtin: Some(is_built_in(network)),
        jobs: Some(network.jobCount),
        created_time: Some(&*network.created_time).filter(|time| !time.is_empty()),
    }
}

/// The JSON of `network create`.
pub(crate) fn created_json(made: &CreateNetworkRes) -> NetworkJson<'_> {
    NetworkJson {
        name: &made.name,
        cidr: &made.cidr,
        bridge: &made.bridge,
        internal: made.internal,
        builtin: None,
        jobs: None,
        created_time: None,
    }
}

/// The JSON of `network list`.
#[derive(Debug, Serialize)]
pub(crate) struct NetworksJson<'a> {
    networks: Vec<NetworkJson<'a>>,
}

/// The networks of an answer.
pub(crate) fn list_json(found: &Networks) -> NetworksJson<'_> {
    NetworksJson { networks: found.networks.iter().map(network_json).collect() }
}

/// The JSON of `network inspect`.
#[derive(Debug, Serialize)]
pub(crate) struct ShownJson<'a> {
    #[serde(flatten)]
    network: NetworkJson<'a>,
    members: Vec<MemberJson<'a>>,
}

/// A job of a network in JSON.
#[derive(Debug, Serialize)]
struct MemberJson<'a> {
    uuid: &'a str,
    name: &'a str,
    address: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    address6: &'a str,
}

/// One network and its jobs.
pub(crate) fn shown_json(found: &GetNetworkRes) -> ShownJson<'_> {
    fn member(job: &NetworkJob) -> MemberJson<'_> {
        MemberJson { uuid: &job.uuid, name: &job.name, address: &job.address, address6: &job.address6 }
    }
    ShownJson {
        network: network_json(found.network.get_or_default()),
        members: found.jobs.iter().map(member).collect(),
    }
}

/// The JSON of `network remove`.
#[derive(Debug, Serialize)]
pub(crate) struct RemovedJson<'a> {
    name: &'a str,
    removed: bool,
}

/// A network that is gone.
pub(crate) fn removed_json(name: &str) -> RemovedJson<'_> {
    RemovedJson { name, removed: true }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, created: &str, jobs: i32) -> Network {
        Network {
            name: name.into(),
            cidr: "10.50.0.0/16".into(),
            bridge: format!("joblet-{name}"),
            jobCount: jobs,
            internal: name == "inner",
            created_time: created.into(),
            ..Network::default()
        }
    }

    #[test]
    fn networks_are_listed_with_marks_and_aligned() {
        let all = [network("bridge", "", 12), network("inner", "2026-01-01T00:00:00Z", 0)];
        assert_eq!(
            list(&all),
            "NAME               CIDR          BRIDGE         REACH     JOBS\n\
             bridge (built-in)  10.50.0.0/16  joblet-bridge  outside   12\n\
             inner              10.50.0.0/16  joblet-inner   internal  0\n"
        );
        assert_eq!(list(&[]), "No networks found\n");
        let found = GetNetworkRes {
            network: Some(network("lab", "x", 1)).into(),
            jobs: vec![NetworkJob {
                uuid: "0123456789ab".into(),
                address: "10.50.0.2".into(),
                ..Default::default()
            }],
            ..Default::default()
        };
        assert!(
            shown(&found).ends_with("\nJOB       NAME  ADDRESS\n01234567  -     10.50.0.2\n"),
            "{}",
            shown(&found)
        );
        let json = serde_json::to_value(shown_json(&found)).unwrap();
        assert_eq!((&json["name"], &json["members"][0]["address"]), (&"lab".into(), &"10.50.0.2".into()));
        assert_eq!(json["builtin"], false);
    }
}
