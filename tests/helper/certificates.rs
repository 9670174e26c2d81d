//! Certificates of every kind for tests of authentication: signed by the node's own authority or a foreign one, of any
//! role, expired, not yet valid, or made for servers.

use openssl::asn1::Asn1Time;
use openssl::asn1::{Asn1Object, Asn1OctetString};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::extension::{BasicConstraints, ExtendedKeyUsage, SubjectAlternativeName};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name, X509NameBuilder};

const DAY: i64 = 24 * 60 * 60;

/// A certificate and its key, as PEM.
#[derive(Clone, Debug)]
pub struct Identity {
    pub cert: Vec<u8>,
    pub key: Vec<u8>,
}

/// The properties of a certificate to make; start from [`Recipe::client`] and change what the test is about.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// The organisational units of the subject: the role, when it is exactly one known word.
    pub units: Vec<String>,
    /// Validity in days from now: from (negative: in the past), to.
    pub days: (i64, i64),
    /// The extended key usage clientAuth, or serverAuth instead.
    pub for_clients: bool,
    /// No extended key usage at all.
    pub without_usage: bool,
    /// Signed with SHA-1 instead of SHA-256.
    pub sha1: bool,
    /// An RSA key of this many bits instead of an elliptic curve.
    pub rsa_bits: Option<u32>,
    /// A DNS name in the subject's alternative names.
    pub name: Option<&'static str>,
}

impl Recipe {
    /// A good client certificate with this organisational unit.
    pub fn client(unit: &str) -> Recipe {
        Recipe {
            units: vec![unit.to_owned()],
            days: (-1, 30),
            for_clients: true,
            without_usage: false,
            sha1: false,
            rsa_bits: None,
            name: None,
        }
    }
}

/// An authority that signs certificates.
pub struct Authority {
    cert: X509,
    key: PKey<Private>,
}

impl Authority {
    /// The authority whose certificate and key these are (PEM).
    pub fn from_pem(cert: &[u8], key: &[u8]) -> Authority {
        Authority {
            cert: X509::from_pem(cert).expect("a certificate in PEM"),
            key: PKey::private_key_from_pem(key).expect("a private key in PEM"),
        }
    }

    /// A foreign authority with the name of `other` and a key of its own.
    pub fn impostor_of(other: &Authority) -> Authority {
        Authority::named_as(other, None)
    }

    /// The same, restricted to names below this domain (RFC 5280, section 4.2.1.10).
    pub fn constrained_to(other: &Authority, domain: &str) -> Authority {
        // SEQUENCE { [0] { SEQUENCE { [2] domain } } }: permitted subtrees, one, a DNS name.
        let nest =
            |tag: u8, inside: Vec<u8>| [vec![tag, u8::try_from(inside.len()).unwrap()], inside].concat();
        let name = nest(0x82, domain.as_bytes().to_vec());
        let der = nest(0x30, nest(0xa0, nest(0x30, name)));
        let (id, der) = (Asn1Object::from_str("2.5.29.30"), Asn1OctetString::new_from_bytes(&der));
        Authority::named_as(
            other,
            Some(X509Extension::new_from_der(&id.unwrap(), true, &der.unwrap()).unwrap()),
        )
    }

    /// An intermediate authority that this one signs.
    pub fn below(other: &Authority) -> Authority {
        let key = new_key(None);
        let mut name = X509NameBuilder::new().unwrap();
        name.append_entry_by_nid(Nid::COMMONNAME, "below").unwrap();
        let mut builder = builder(&name.build(), other.cert.subject_name(), &key, (-1, 30));
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        builder.sign(&other.key, MessageDigest::sha256()).unwrap();
        Authority { cert: builder.build(), key }
    }

    fn named_as(other: &Authority, extension: Option<X509Extension>) -> Authority {
        let key = new_key(None);
        let name = other.cert.subject_name().to_owned().expect("a name can be copied");
        let mut builder = builder(&name, &name, &key, (-1, 30));
        builder.append_extension(BasicConstraints::new().critical().ca().build().unwrap()).unwrap();
        if let Some(extension) = extension {
            builder.append_extension(extension).unwrap();
        }
        builder.sign(&key, MessageDigest::sha256()).unwrap();
        Authority { cert: builder.build(), key }
    }

    /// The authority's certificate as PEM.
    pub fn pem(&self) -> Vec<u8> {
        self.cert.to_pem().unwrap()
    }

    /// Signs a new certificate made by the recipe.
    pub fn issue(&self, recipe: &Recipe) -> Identity {
        let key = new_key(recipe.rsa_bits);
        let mut builder = builder(&subject(recipe), self.cert.subject_name(), &key, recipe.days);
        self.finish(&mut builder, recipe, &self.key);
        Identity { cert: builder.build().to_pem().unwrap(), key: key.private_key_to_pem_pkcs8().unwrap() }
    }

    fn finish(&self, builder: &mut X509Builder, recipe: &Recipe, signer: &PKey<Private>) {
        let mut usage = ExtendedKeyUsage::new();
        let usage = if recipe.for_clients { usage.client_auth() } else { usage.server_auth() };
        if !recipe.without_usage {
            builder.append_extension(usage.build().unwrap()).unwrap();
        }
        if let Some(name) = recipe.name {
            let name = SubjectAlternativeName::new().dns(name).build(&builder.x509v3_context(None, None));
            builder.append_extension(name.unwrap()).unwrap();
        }
        let digest = if recipe.sha1 { MessageDigest::sha1() } else { MessageDigest::sha256() };
        builder.sign(signer, digest).unwrap();
    }
}

/// A self-signed certificate.
pub fn self_signed(recipe: &Recipe) -> Identity {
    let key = new_key(recipe.rsa_bits);
    let name = subject(recipe);
    let mut builder = builder(&name, &name, &key, recipe.days);
    let usage = ExtendedKeyUsage::new().client_auth().build().unwrap();
    builder.append_extension(usage).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    Identity { cert: builder.build().to_pem().unwrap(), key: key.private_key_to_pem_pkcs8().unwrap() }
}

fn new_key(rsa_bits: Option<u32>) -> PKey<Private> {
    if let Some(bits) = rsa_bits {
        return PKey::from_rsa(Rsa::generate(bits).unwrap()).unwrap();
    }
    let curve = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    PKey::from_ec_key(EcKey::generate(&curve).unwrap()).unwrap()
}

fn subject(recipe: &Recipe) -> X509Name {
    let mut name = X509NameBuilder::new().unwrap();
    name.append_entry_by_nid(Nid::ORGANIZATIONNAME, "joblet").unwrap();
    for unit in &recipe.units {
        name.append_entry_by_nid(Nid::ORGANIZATIONALUNITNAME, unit).unwrap();
    }
    name.append_entry_by_nid(Nid::COMMONNAME, "test-client").unwrap();
    name.build()
}

fn builder(
    subject: &openssl::x509::X509NameRef,
    issuer: &openssl::x509::X509NameRef,
    key: &PKey<Private>,
    days: (i64, i64),
) -> X509Builder {
    let now =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs().cast_signed();
    let mut serial = BigNum::new().unwrap();
    serial.rand(127, openssl::bn::MsbOption::MAYBE_ZERO, false).unwrap();
    let mut builder = X509Builder::new().unwrap();
    builder.set_version(2).unwrap();
    builder.set_serial_number(&serial.to_asn1_integer().unwrap()).unwrap();
    builder.set_subject_name(subject).unwrap();
    builder.set_issuer_name(issuer).unwrap();
    builder.set_pubkey(key).unwrap();
    builder.set_not_before(&Asn1Time::from_unix(now + days.0 * DAY).unwrap()).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(now + days.1 * DAY).unwrap()).unwrap();
    builder
}
