//! Messages about networks, both ways.

use super::Refusal;
use super::reply::time;
use super::request::repeated;
use crate::daemon::command::{NetworkJobView, NetworkView};
use crate::job::{InvalidField, NetworkName};
use crate::pb::joblet::{
    CreateNetworkReq, CreateNetworkRes, GetNetworkRes, Network, NetworkJob, Networks, RemoveNetworkRes,
};

/// Bytes of the longest text of a range.
const LONGEST: usize = 64;

/// The name, the range and whether the network is internal.
///
/// # Errors
/// No name, a name that no network can have, or no range.
pub(in crate::api) fn create(req: CreateNetworkReq) -> Result<(NetworkName, String, bool), Refusal> {
    let name = req.name.parse()?;
    if req.cidr.is_empty() || req.cidr.len() > LONGEST {
        let shown = repeated(&req.cidr);
        let text =
            format!("cannot create network \"{name}\": cidr \"{shown}\" is no range such as 10.50.0.0/16");
        return Err(InvalidField::new(text).into());
    }
    Ok((name, req.cidr, req.internal))
}

/// The name of a network that may be there.
///
/// # Errors
/// An empty name, or one that is longer than any.
pub(in crate::api) fn named(name: String) -> Result<String, Refusal> {
    if name.is_empty() || name.len() > LONGEST {
        let shown = repeated(&name);
        return Err(InvalidField::new(format!(
            "\"{shown}\" cannot be the name of a network: it must have 1 to 63 characters"
        ))
        .into());
    }
    Ok(name)
}

/// The reply to the maker of a network.
pub(in crate::api) fn created(network: NetworkView) -> CreateNetworkRes {
    CreateNetworkRes {
        name: network.name,
        cidr: network.range.to_string(),
        bridge: network.bridge,
        internal: network.internal,
        ..CreateNetworkRes::default()
    }
}

/// The reply to the remover of a network.
pub(in crate::api) fn removed() -> RemoveNetworkRes {
    RemoveNetworkRes {
        success: true,
        message: "Network removed successfully".to_owned(),
        ..RemoveNetworkRes::default()
    }
}

/// The reply with all networks.
pub(in crate::api) fn list(networks: Vec<NetworkView>) -> Networks {
    Networks { networks: networks.into_iter().map(network).collect(), ..Networks::default() }
}

/// One network and its jobs.
pub(in crate::api) fn shown((view, jobs): (NetworkView, Vec<NetworkJobView>)) -> GetNetworkRes {
    let job = |job: NetworkJobView| NetworkJob {
        uuid: job.id.to_string(),
        name: job.name,
        address: job.address.map(|address| address.to_string()).unwrap_or_default(),
        address6: job.address6.map(|address| address.to_string()).unwrap_or_default(),
        ..NetworkJob::default()
    };
    GetNetworkRes {
        network: Some(network(view)).into(),
        jobs: jobs.into_iter().map(job).collect(),
        ..GetNetworkRes::default()
    }
}

fn network(view: NetworkView) -> Network {
    Network {
        name: view.name,
        cidr: view.range.to_string(),
        bridge: view.bridge,
        jobCount: i32::try_from(view.jobs).unwrap_or(i32::MAX),
        internal: view.internal,
        created_time: time(view.created_ns),
        ..Network::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn network_is_shown_with_its_jobs() {
        let view = NetworkView {
            name: "lab".into(),
            range: "10.50.0.0/16".parse().unwrap(),
            bridge: "joblet-lab".into(),
            internal: true,
            created_ns: Some(1_000_000_000),
            jobs: 3,
        };
        let made = created(view.clone());
        assert_eq!((made.name.as_str(), made.cidr.as_str(), made.internal), ("lab", "10.50.0.0/16", true));
        let job = NetworkJobView {
            id: crate::job::JobId::random(),
            name: "db".into(),
            address: Some([10, 50, 0, 2].into()),
            address6: None,
        };
        let shown = shown((view.clone(), vec![job]));
        assert_eq!((shown.jobs[0].name.as_str(), shown.jobs[0].address.as_str()), ("db", "10.50.0.2"));
        let built_in = network(NetworkView { created_ns: None, ..view });
        assert_eq!((built_in.jobCount, built_in.created_time.as_str()), (3, ""));
        assert!(shown.network.created_time.starts_with("1970-01-01T00:00:01"));
    }

    #[test]
    fn requests_name_a_network_and_a_range() {
        let asked = |name: &str, cidr: &str| CreateNetworkReq {
            name: name.into(),
            cidr: cidr.into(),
            ..CreateNetworkReq::default()
        };
        assert_eq!(create(asked("lab", "10.0.0.0/8")).unwrap().0.as_str(), "lab");
        for (name, cidr) in
            [("", "10.0.0.0/8"), ("bridge", "10.0.0.0/8"), ("lab", ""), ("lab", &*"1".repeat(1 << 20))]
        {
            let said = create(asked(name, cidr)).unwrap_err().to_string();
            assert!(said.len() < 300 && !said.is_empty(), "{said}");
        }
        assert!(named(String::new()).is_err() && named("x".repeat(1 << 20)).is_err());
        assert_eq!(named("bridge".into()).unwrap(), "bridge");
    }
}
