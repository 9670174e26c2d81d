use std::collections::BTreeSet;

use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::x509::X509NameBuilder;

use super::*;
use crate::pb::joblet_grpc::ALL_METHODS;

/// A self-signed certificate with these OUs, valid until `not_after`.
fn pem(units: &[&str], not_after: i64) -> Vec<u8> {
    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    let key = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::COMMONNAME, "somebody").unwrap();
    for unit in units {
        name.append_entry_by_nid(Nid::ORGANIZATIONALUNITNAME, unit).unwrap();
    }
    let name = name.build();
    let mut cert = X509::builder().unwrap();
    cert.set_version(2).unwrap();
    cert.set_serial_number(&Asn1Integer::from_bn(&BigNum::from_u32(1).unwrap()).unwrap()).unwrap();
    cert.set_subject_name(&name).unwrap();
    cert.set_issuer_name(&name).unwrap();
    cert.set_pubkey(&key).unwrap();
    cert.set_not_before(&Asn1Time::from_unix(1_000_000).unwrap()).unwrap();
    cert.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    cert.sign(&key, MessageDigest::sha256()).unwrap();
    cert.build().to_pem().unwrap()
}

fn role(units: &[&str]) -> Option<Role> {
    identify(&pem(units, 4_000_000_000)).unwrap().role
}

#[test]
fn every_rpc_has_one_row_and_every_row_an_rpc() {
    let rpcs: BTreeSet<&str> = ALL_METHODS.iter().copied().collect();
    let rows: BTreeSet<&str> = TABLE.iter().map(|row| row.0).collect();
    assert_eq!(rows, rpcs);
    assert_eq!(TABLE.len(), ALL_METHODS.len(), "a method has two rows");
}

#[test]
fn the_whole_matrix_of_roles_and_rpcs_is_as_documented() {
    let for_viewers = [
        "GetJobStatus",
        "ListJobs",
        "GetJobLogs",
        "GetJobMetrics",
        "GetWorkflowStatus",
        "ListWorkflows",
        "GetWorkflowJobs",
        "ListNetworks",
        "ListVolumes",
        "GetSystemStatus",
        "StreamSystemMetrics",
        "ListRuntimes",
        "GetRuntimeInfo",
        "ValidateRuntimeSpec",
    ];
    let denied = |method, role| match permit(method, role) {
        Err(status) => status.code() == RpcStatusCode::PERMISSION_DENIED,
        Ok(()) => false,
    };
    for method in ALL_METHODS {
        let name = method.rsplit('/').next().unwrap();
        assert!(!denied(method, Some(Role::Admin)), "{method}");
        assert_eq!(denied(method, Some(Role::Viewer)), !for_viewers.contains(&name), "{method}");
        assert!(denied(method, None), "{method}");
    }
}

#[test]
fn a_method_that_nobody_thought_of_is_denied() {
    for role in [Some(Role::Admin), Some(Role::Viewer), None] {
        for method in ["/joblet.JobService/Format", "/joblet.JobService/runjob", "", "RunJob"] {
            assert_eq!(permit(method, role).unwrap_err().code(), RpcStatusCode::PERMISSION_DENIED);
        }
    }
}

#[test]
fn refusals_have_the_documented_words() {
    let run = "/joblet.JobService/RunJob";
    for (role, word) in [(Some(Role::Viewer), "viewer"), (None, "unknown")] {
        assert_eq!(
            permit(run, role).unwrap_err().message(),
            format!("role {word} is not allowed to perform operation run_job")
        );
    }
    let status = permit("/joblet.VolumeService/CreateVolume", Some(Role::Admin)).unwrap_err();
    assert_eq!(status.code(), RpcStatusCode::UNIMPLEMENTED);
    assert_eq!(status.message(), "CreateVolume is not supported by this version of joblet");
}

#[test]
fn the_one_organisational_unit_is_the_role_and_is_compared_exactly() {
    assert_eq!(role(&["admin"]), Some(Role::Admin));
    assert_eq!(role(&["viewer"]), Some(Role::Viewer));
    for units in [
        &[][..],
        &["Admin"],
        &["admin "],
        &["admin\0x"],
        &["administrators"],
        &["root"],
        &["admin", "viewer"],
        &["viewer", "admin"],
        &["admin", "admin"],
    ] {
        assert_eq!(role(units), None, "{units:?}");
    }
}

#[test]
fn the_end_of_a_certificate_is_read_to_the_second() {
    for not_after in [1_000_001, 1_999_999_999, 4_102_444_799] {
        assert_eq!(identify(&pem(&["admin"], not_after)).unwrap().not_after, not_after);
    }
    assert_eq!(identify(b"-----BEGIN CERTIFICATE-----\nnonsense\n-----END CERTIFICATE-----\n"), None);
}

#[test]
fn the_memory_for_certificates_is_bounded() {
    let mut known = Known::default();
    for i in 0..3 * REMEMBERED {
        known.identify(format!("no certificate {i}").as_bytes());
        assert!(known.0.len() <= REMEMBERED);
    }
    let admin = pem(&["admin"], 4_000_000_000);
    assert_eq!(known.identify(&admin), known.identify(&admin));
    assert_eq!(known.identify(&admin).unwrap().role, Some(Role::Admin));
}
