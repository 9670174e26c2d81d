//! The messages of Forward.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::Refusal;
use super::request::{invalid, job};
use crate::forward::CHUNK;
use crate::job::JobRef;
use crate::pb::joblet::{ForwardOpen, ForwardReq, ForwardRes, forward_req, forward_res};

/// The job and the address inside that the first message names.
///
/// # Errors
/// Another message comes first; those of [`job`]; the port is none.
pub(in crate::api) fn opened(message: ForwardReq) -> Result<(JobRef, SocketAddr), Refusal> {
    let Some(forward_req::Message::Open(open)) = message.message else {
        return invalid("the first message of a connection must be \"open\"".to_owned());
    };
    let ForwardOpen { uuid, port, v6, .. } = open;
    let port = match u16::try_from(port) {
        Ok(port) if port > 0 => port,
        _ => return invalid(format!("invalid port {port}: 1 to 65535")),
    };
    let loopback = if v6 { IpAddr::V6(Ipv6Addr::LOCALHOST) } else { IpAddr::V4(Ipv4Addr::LOCALHOST) };
    Ok((job(&uuid)?, SocketAddr::new(loopback, port)))
}

/// A client's message once its connection is open.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::api) enum Sent {
    /// Bytes for the job.
    Data(Vec<u8>),
    /// The end of the client's bytes.
    HalfClose,
}

/// Reads a later message.
///
/// # Errors
/// A second "open", an empty message, or more bytes than one message may have.
pub(in crate::api) fn sent(message: ForwardReq) -> Result<Sent, Refusal> {
    match message.message {
        Some(forward_req::Message::Data(bytes)) if bytes.len() <= CHUNK => Ok(Sent::Data(bytes)),
        Some(forward_req::Message::Data(bytes)) => {
            invalid(format!("data has {} bytes, at most {CHUNK} are allowed in one message", bytes.len()))
        }
        Some(forward_req::Message::HalfClose(_)) => Ok(Sent::HalfClose),
        Some(forward_req::Message::Open(_)) => invalid("the connection is open already".to_owned()),
        _ => invalid("the message has neither data nor half_close".to_owned()),
    }
}

fn message(message: forward_res::Message) -> ForwardRes {
    ForwardRes { message: Some(message), ..ForwardRes::default() }
}

/// Says that the connection inside is made.
pub(in crate::api) fn open_reply() -> ForwardRes {
    message(forward_res::Message::Opened(true))
}

/// Bytes of the job.
pub(in crate::api) fn data_reply(bytes: Vec<u8>) -> ForwardRes {
    message(forward_res::Message::Data(bytes))
}

/// The job sends nothing more.
pub(in crate::api) fn end_reply() -> ForwardRes {
    message(forward_res::Message::HalfClose(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(port: u32, v6: bool) -> ForwardReq {
        let open = ForwardOpen { uuid: "f47ac10b".into(), port, v6, ..ForwardOpen::default() };
        ForwardReq { message: Some(forward_req::Message::Open(open)), ..ForwardReq::default() }
    }

    #[test]
    fn connection_names_a_loopback_port_of_a_job() {
        for (port, v6, expected) in
            [(1, false, "127.0.0.1:1"), (65535, true, "[::1]:65535"), (8080, false, "127.0.0.1:8080")]
        {
            assert_eq!(opened(open(port, v6)).unwrap().1.to_string(), expected);
        }
        for port in [0, 65536, u32::MAX] {
            let why = opened(open(port, false)).unwrap_err().to_string();
            assert_eq!(why, format!("invalid port {port}: 1 to 65535"));
        }
        assert!(opened(ForwardReq::default()).is_err());
    }

    #[test]
    fn later_messages_are_data_or_the_end() {
        let data = |length| {
            let data = Some(forward_req::Message::Data(vec![7; length]));
            ForwardReq { message: data, ..ForwardReq::default() }
        };
        assert_eq!(sent(data(CHUNK)).unwrap(), Sent::Data(vec![7; CHUNK]));
        assert!(sent(data(CHUNK + 1)).unwrap_err().to_string().contains("65537 bytes"));
        assert!(sent(open(1, false)).is_err() && sent(ForwardReq::default()).is_err());
        let end = Some(forward_req::Message::HalfClose(true));
        assert_eq!(sent(ForwardReq { message: end, ..ForwardReq::default() }).unwrap(), Sent::HalfClose);
    }
}
