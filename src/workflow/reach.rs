//! The reach of a job of a workflow file, its rate, and its published ports: the same as flags of `rnx job run`.

use std::fmt::Display;

use super::array::Array;
use super::error::{Place, WorkflowError, shown};
use super::values::{string, strings};
use super::yaml::{Key, Node};
use crate::job::egress::List;
use crate::job::publish::{self, Published};
use crate::job::{InvalidField, NetRate, NetworkMode, units};

/// The wishes of a job that its network has to fulfil.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Destinations outside its network that it may reach; `None`: the node's default.
    pub egress: Option<List>,
    /// The rate of its network.
    pub rate: NetRate,
    /// Ports of the host that reach it.
    pub publish: Vec<Published>,
}

impl Reach {
    /// Checks that a job in this network can have all of it.
    ///
    /// # Errors
    /// The first wish that the network cannot fulfil.
    pub fn check(&self, network: &NetworkMode) -> Result<(), InvalidField> {
        if self.egress.is_some() {
            network.check_egress()?;
        }
        network.check_rate(self.rate)?;
        network.check_publish(&self.publish)
    }
}

/// The wishes while the keys of the job are read.
#[derive(Default)]
pub(super) struct Draft {
    entries: Vec<String>,
    up: i64,
    down: i64,
    publish: Vec<Published>,
    /// The place of the last list of ports.
    published_at: Place,
}

impl Draft {
    /// Takes the entries of `egress`, or with `prefix` the names of `egress_preset`.
    pub(super) fn add_egress(&mut self, key: &Key, node: &Node, prefix: &str) -> Result<(), WorkflowError> {
        let entries = strings(key, node)?;
        if entries.is_empty() {
            let why = format!(
                "{}: is empty; leave it out for the node's default, or write egress: ['!*'] for nothing outside",
                key.text
            );
            return Err(WorkflowError::value(node.at, why));
        }
        for entry in entries {
            let entry = format!("{prefix}{entry}");
            // One by one: the place is that of the list, and the sentence names the entry.
            List::parse(std::slice::from_ref(&entry)).map_err(|why| wrong(key, node, &why))?;
            self.entries.push(entry);
        }
        Ok(())
    }

    /// Takes `net_rate_up` or `net_rate_down`: bytes a second, or a size such as 10M.
    pub(super) fn set_rate(&mut self, key: &Key, node: &Node) -> Result<(), WorkflowError> {
        let text = string(key, node)?;
        let size = if text.is_empty() { Ok(0) } else { units::parse_size(&text) };
        let rate = size.ok().and_then(|size| i64::try_from(size).ok()).ok_or_else(|| {
            let why = format!("\"{}\" is no rate; write bytes a second, or a size such as 10M", shown(&text));
            wrong(key, node, &why)
        })?;
        let place = if key.text == "net_rate_up" { &mut self.up } else { &mut self.down };
        *place = rate;
        NetRate::new(self.up, self.down).map(drop).map_err(|why| wrong(key, node, &why))
    }

    /// Takes the key `publish`.
    pub(super) fn set_publish(&mut self, key: &Key, node: &Node) -> Result<(), WorkflowError> {
        let ports = strings(key, node)?;
        let ports = ports.iter().map(|port| Published::parse(port)).collect::<Result<Vec<_>, _>>();
        self.publish = ports.map_err(|why| WorkflowError::value(node.at, why.to_string()))?;
        self.published_at = node.at;
        publish::check(&self.publish).map_err(|why| WorkflowError::value(node.at, why.to_string()))
    }

    /// The wishes as a whole, of the job at this place that names this network, or none.
    pub(super) fn finish(
        self,
        at: Place,
        of: &dyn Display,
        network: Option<&str>,
        array: Option<&Array>,
    ) -> Result<Reach, WorkflowError> {
        let refused = |why: &dyn ToString| WorkflowError::value(at, format!("{of}: {}", why.to_string()));
        let egress = (!self.entries.is_empty()).then(|| List::parse(&self.entries)).transpose();
        let rate = NetRate::new(self.up, self.down).map_err(|why| refused(&why))?;
        let reach = Reach { egress: egress.map_err(|why| refused(&why))?, rate, publish: self.publish };
        if !reach.publish.is_empty()
            && array.is_some_and(|array| array.elements.len() > 1 && array.at_a_time != Some(1))
        {
            let why = "publish: the elements of an array would all have the same port of the host; let one run at a time \
                       (%1), or leave it out";
            return Err(WorkflowError::value(self.published_at, format!("{of}: {why}")));
        }
        // Without a name it is the node's own network, which the node knows.
        if let Some(mode) = network.and_then(|name| name.parse::<NetworkMode>().ok()) {
            reach.check(&mode).map_err(|why| refused(&why))?;
        }
        Ok(reach)
    }
}

fn wrong(key: &Key, node: &Node, why: &impl ToString) -> WorkflowError {
    WorkflowError::value(node.at, format!("{}: {}", key.text, why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::parse;

    fn job(lines: &str) -> String {
        format!("jobs:\n  a:\n    command: x\n    {}\n", lines.replace('\n', "\n    "))
    }

    #[test]
    fn lists_rates_and_ports_are_taken_as_job_run_takes_them() {
        let text = job(
            "network: lab\negress: [Example.org, '*.github.com:443', '!10.0.0.0/8']\negress_preset: [pypi]\n\
             net_rate_up: 10M\nnet_rate_down: 4096\npublish: ['8080:80', '192.0.2.1:9000:90']",
        );
        let reach = parse(&text).unwrap().jobs.remove(0).reach;
        let list = reach.egress.unwrap();
        assert_eq!(list.texts(), ["example.org", "*.github.com:443", "!10.0.0.0/8", "preset:pypi"]);
        assert_eq!((reach.rate.up, reach.rate.down), (10 << 20, 4096));
        let ports: Vec<String> = reach.publish.iter().map(ToString::to_string).collect();
        assert_eq!(ports, ["127.0.0.1:8080:80", "192.0.2.1:9000:90"]);
        let none = parse(&job("net_rate_up: 0\npublish: []\nnetwork: none")).unwrap().jobs.remove(0).reach;
        assert_eq!(none, super::Reach::default());
        for good in ["array: 1-3%1\npublish: ['8080:80']", "array: '1'\npublish: ['8080:80']"] {
            parse(&job(good)).unwrap();
        }
    }

    #[test]
    fn wishes_that_cannot_be_are_refused_with_their_place() {
        for (lines, expected) in [
            ("egress: []", "line 4, column 13: egress: is empty; leave it out"),
            ("egress: example.org", "line 4, column 13: egress: is a list"),
            ("egress: ['https://example.org']", "column 13: egress: egress entry \"https://example.org\""),
            ("egress_preset: [cargo]", "egress preset \"cargo\" does not exist; there are pypi"),
            ("network: none\negress: [example.org]", "job 'a': egress needs a network of the job's own"),
            ("network: host\negress: [example.org]", "shares the network of the host"),
            ("net_rate_up: fast", "line 4, column 18: net_rate_up: \"fast\" is no rate"),
            ("net_rate_down: 100", "net_rate_down: invalid net_rate_down 100: 1024 to"),
            ("network: none\nnet_rate_up: 1M", "network \"none\" has no rate"),
            ("publish: ['80']", "line 4, column 14: invalid publish \"80\""),
            ("publish: ['1:1', '1:2']", "publish has port 1 twice"),
            ("network: host\npublish: ['8080:80']", "in network \"host\" ports are the host's"),
            (
                "array: 1-3\npublish: ['8080:80']",
                "line 5, column 14: job 'a': publish: the elements of an array",
            ),
            ("matrix: {x: [1, 2]}\npublish: ['8080:80']", "would all have the same port of the host"),
            (
                "resources: {net_rate_up: 1M}",
                "unknown key \"net_rate_up\" in resources: write it beside resources:",
            ),
            ("egres: [x]", "did you mean \"egress\"?"),
        ] {
            let error = parse(&job(lines)).map(|workflow| workflow.jobs.len()).expect_err(lines).to_string();
            assert!(error.contains(expected), "{lines}: {error}");
        }
    }
}
