//! The record of a sample: the numbers that every reader wants, and the whole line of the job's spool.

use std::fmt::Write;

use serde::Deserialize;

use super::record::{Record, leading_number};

/// Bytes of the longest line of a sample.
pub(super) const LONGEST: usize = 64 << 10;

/// The keys of a sample that the short form repeats.
#[derive(Debug, Deserialize)]
struct Keys {
    #[serde(rename = "timestamp")]
    time_ns: i64,
    cpu: Option<Cpu>,
    memory: Option<Memory>,
    io: Option<Io>,
    network: Option<Network>,
}

#[derive(Debug, Deserialize)]
struct Cpu {
    usage_percent: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Memory {
    current: u64,
}

#[derive(Debug, Deserialize)]
struct Io {
    rbytes: u64,
    wbytes: u64,
    rios: u64,
    wios: u64,
}

#[derive(Debug, Deserialize)]
struct Network {
    rx_bytes: u64,
    tx_bytes: u64,
    rx_packets: u64,
    tx_packets: u64,
}

/// Appends the record of a sample with its line feed and returns the sample's time. `None`: the line is no sample, and
/// nothing is appended.
pub(super) fn write_sample(job: &str, number: u64, line: &[u8], out: &mut Vec<u8>) -> Option<i64> {
    if line.contains(&b'\n') {
        return None;
    }
    let keys: Keys = serde_json::from_slice(line).ok()?;
    let mut parts = Vec::new();
    if let Some(percent) = keys.cpu.and_then(|cpu| cpu.usage_percent) {
        parts.push(format!("\"cpu_usage\":{}", percent / 100.0));
    }
    if let Some(Memory { current }) = keys.memory {
        parts.push(format!("\"memory_usage\":{current}"));
    }
    if let Some(Io { rbytes, wbytes, rios, wios }) = keys.io {
        parts.push(format!(
            "\"disk_io\":{{\"read_bytes\":{rbytes},\"write_bytes\":{wbytes},\"read_ops\":{rios},\"write_ops\":{wios}}}"
        ));
    }
    if let Some(Network { rx_bytes, tx_bytes, rx_packets, tx_packets }) = keys.network {
        parts.push(format!(
            "\"network_io\":{{\"rx_bytes\":{rx_bytes},\"tx_bytes\":{tx_bytes},\"rx_packets\":{rx_packets},\
             \"tx_packets\":{tx_packets}}}"
        ));
    }
    let mut head = String::new();
    let (time_ns, short) = (keys.time_ns, parts.join(","));
    let written = write!(
        head,
        "{{\"job_id\":\"{job}\",\"timestamp\":{time_ns},\"sequence\":{number},\"data\":{{{short}}},\"sample\":"
    );
    written.ok()?;
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(line);
    out.extend_from_slice(b"}\n");
    Some(time_ns)
}

/// Reads one record without its line feed and appends the sample's line with a line feed, so that content has the
/// offsets of the spool's file. The record of another program has no whole sample: its short form is appended.
pub(super) fn read_sample(line: &[u8], content: &mut Vec<u8>) -> Option<Record> {
    if let Some((time_ns, sequence, sample)) = own(line) {
        content.extend_from_slice(sample);
        content.push(b'\n');
        return Some(Record { sequence, time_ns, stream: 0, bytes: sample.len() + 1, lost: 0 });
    }
    #[derive(Deserialize)]
    struct Foreign {
        #[serde(default, rename = "timestamp")]
        time_ns: i64,
        #[serde(default)]
        sequence: u64,
        data: serde_json::Value,
    }
    let Foreign { time_ns, sequence, data } = serde_json::from_slice(line).ok()?;
    let text = data.to_string();
    content.extend_from_slice(text.as_bytes());
    content.push(b'\n');
    Some(Record { sequence, time_ns, stream: 0, bytes: text.len() + 1, lost: 0 })
}

/// The time, the number and the line of a record that [`write_sample`] wrote.
fn own(line: &[u8]) -> Option<(i64, u64, &[u8])> {
    let rest = line.strip_prefix(b"{\"job_id\":\"")?.get(36..)?.strip_prefix(b"\",\"timestamp\":")?;
    let (time, rest) = leading_number(rest)?;
    let (sequence, rest) = leading_number(rest.strip_prefix(b",\"sequence\":")?)?;
    let rest = rest.strip_prefix(b",\"data\":{")?;
    // The short form has numbers only, so the first such key is the one behind it.
    let mark = b"},\"sample\":";
    let at = rest.windows(mark.len()).position(|window| window == mark)?;
    let sample = rest[at + mark.len()..].strip_suffix(b"}")?;
    Some((i64::try_from(time).ok()?, sequence, sample))
}

#[cfg(test)]
mod tests {
    use super::*;

    const JOB: &str = "f47ac10b-58cc-4372-a567-0e02b2c3d479";

    #[test]
    fn a_sample_is_read_back_to_the_byte() {
        let golden = std::fs::read_to_string("tests/golden/metrics-1/metrics.jsonl").unwrap();
        for (n, line) in golden.lines().enumerate() {
            let mut record = Vec::new();
            let time_ns = write_sample(JOB, n as u64 + 1, line.as_bytes(), &mut record).unwrap();
            let json: serde_json::Value = serde_json::from_slice(&record).unwrap();
            assert_eq!(json["timestamp"].as_i64(), Some(time_ns));
            assert_eq!(json["sample"]["timestamp"].as_i64(), Some(time_ns));
            assert_eq!(json["data"]["memory_usage"], json["sample"]["memory"]["current"]);
            assert_eq!(json["data"]["disk_io"]["read_ops"], json["sample"]["io"]["rios"]);
            let mut content = Vec::new();
            let read = read_sample(&record[..record.len() - 1], &mut content).unwrap();
            assert_eq!((read.sequence, read.time_ns), (n as u64 + 1, time_ns));
            assert_eq!(content, format!("{line}\n").into_bytes());
        }
    }

    #[test]
    fn the_short_form_has_what_was_measured() {
        let line = br#"{"timestamp":5,"cpu":{"usage_percent":42.5},"memory":null}"#;
        let mut record = Vec::new();
        assert_eq!(write_sample(JOB, 1, line, &mut record), Some(5));
        let want = r#","timestamp":5,"sequence":1,"data":{"cpu_usage":0.425},"sample":{"timestamp""#;
        assert!(String::from_utf8_lossy(&record).contains(want), "{}", String::from_utf8_lossy(&record));
        for wrong in [&b""[..], b"{}", b"{\"timestamp\":1}\n", b"[1]"] {
            assert_eq!(write_sample(JOB, 1, wrong, &mut Vec::new()), None);
        }
    }

    #[test]
    fn the_record_of_another_program_gives_its_short_form() {
        let line = br#"{"job_id":"x","timestamp":7,"data":{"cpu_usage":0.5}}"#;
        let mut content = Vec::new();
        let read = read_sample(line, &mut content).unwrap();
        assert_eq!((read.sequence, read.time_ns, content), (0, 7, b"{\"cpu_usage\":0.5}\n".to_vec()));
        assert_eq!(read_sample(b"{}", &mut Vec::new()), None);
    }
}
