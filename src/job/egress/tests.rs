use proptest::prelude::*;

use super::*;

fn list(texts: &[&str]) -> List {
    List::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>()).unwrap()
}

fn refusal(text: &str) -> String {
    List::parse(&[text.to_owned()]).unwrap_err().to_string()
}

fn allowed(ports: &[u16]) -> Verdict {
    Verdict::Allowed(Ports::These(ports.to_vec()))
}

#[test]
fn every_form_is_read_and_written_in_one_spelling() {
    for (text, spelled) in [
        ("example.org", "example.org"),
        ("Example.ORG.", "example.org"),
        ("*.GitHub.com:443", "*.github.com:443"),
        ("*", "*"),
        ("_dmarc.example.org", "_dmarc.example.org"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("localhost", "localhost"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("10.1.0.0/16:5432", "10.1.0.0/16:5432"),
        ("1.2.3.4/32", "1.2.3.4"),
        ("1.2.3.4:5432", "1.2.3.4:5432"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("::1", "::1"),
        ("[::1]:80", "[::1]:80"),
        ("[2001:db8::/32]:443", "[2001:db8::/32]:443"),
        ("[2001:db8::]", "2001:db8::"),
        ("!secret.example.org", "!secret.example.org"),
        ("!10.1.2.0/24:22", "!10.1.2.0/24:22"),
        ("!*", "!*"),
        ("preset:pypi", "preset:pypi"),
    ] {
        assert_eq!(list(&[text]).texts(), [spelled], "{text}");
    }
}

#[test]
fn slips_are_refused_with_what_to_write() {
    for (text, part) in [
        ("", "leave it out"),
        (" example.org", "separated by commas"),
        ("a.org,b.org", "separated by commas"),
        ("bücher.example", "xn--"),
        ("https://example.org/", "write the name of the host alone"),
        ("example.org/path", "write the name of the host alone"),
        ("example.org:0", "1 to 65535"),
        ("example.org:70000", "1 to 65535"),
        ("example.org:+80", "1 to 65535"),
        ("example.org:", "1 to 65535"),
        ("exa*mple.org", "'*' stands in front only"),
        ("*.*.org", "'*' stands in front only"),
        ("*example.org", "'*' stands in front only"),
        ("*.", "'*' stands in front only"),
        ("a..b", "1 to 63 characters"),
        (".example.org", "1 to 63 characters"),
        ("-a.org", "begins or ends with '-'"),
        ("a$.org", "letters, digits"),
        ("127.1", "four numbers to 255"),
        ("0x7f.1", "four numbers to 255"),
        ("0x7f000001", "four numbers to 255"),
        ("2130706433", "four numbers to 255"),
        ("1.2.3.256", "four numbers to 255"),
        ("10.1.2.3/16", "write 10.1.0.0/16"),
        ("10.0.0.0/33", "a number to 32"),
        ("10.0.0.0/", "a number to 32"),
        ("::/129", "a number to 128"),
        ("::ffff:1.2.3.4", "write 1.2.3.4"),
        ("fe80::1%eth0", "is no address"),
        ("[1.2.3.4]:80", "write 1.2.3.4 or 1.2.3.4:PORT"),
        ("[::1", "has no ']'"),
        ("[::1]80", ":PORT or nothing"),
        ("a:b:80", "[ADDRESS]:PORT"),
        ("!example.org:443", "leave the port out"),
        ("!!example.org", "letters, digits"),
        ("preset:cargo", "there are pypi, npm, debian, git, crates"),
        ("!preset:pypi", "deny its names"),
        ("a.org\u{7}", "separated by commas"),
    ] {
        let why = refusal(text);
        assert!(why.contains(part), "{text:?}: {why}");
        assert!(why.starts_with("egress "), "{why}");
    }
    let why = refusal(&"a".repeat(5000));
    assert!(why.len() < 300 && why.contains("at most 264"), "{why}");
    let many: Vec<String> = (0..257).map(|n| format!("a{n}.org")).collect();
    assert_eq!(List::parse(&many).unwrap_err(), EgressError::TooMany(257));
    assert!(List::parse(&many[..256]).unwrap().changed(&many[256..], &[]).is_err());
}

#[test]
fn names_are_allowed_by_whole_labels_and_denial_wins() {
    let list = list(&[
        "*.example.org:443",
        "example.org",
        "!secret.example.org",
        "!*.deep.example.org",
        "a.net:1",
        "a.net:2",
    ]);
    for (name, verdict) in [
        ("example.org", Verdict::Allowed(Ports::All)),
        ("EXAMPLE.org.", Verdict::Allowed(Ports::All)),
        ("www.example.org", allowed(&[443])),
        ("a.b.example.org", allowed(&[443])),
        ("badexample.org", Verdict::Unlisted),
        (".example.org", Verdict::Unlisted),
        ("org", Verdict::Unlisted),
        ("example.org.evil.net", Verdict::Unlisted),
        ("secret.example.org", Verdict::Denied),
        ("x.secret.example.org", allowed(&[443])),
        ("x.deep.example.org", Verdict::Denied),
        ("deep.example.org", allowed(&[443])),
        ("a.net", allowed(&[1, 2])),
        ("", Verdict::Unlisted),
    ] {
        assert_eq!(list.allows_name(name, None), verdict, "{name}");
    }
    assert_eq!(list.allows_name("www.example.org", Some(443)), allowed(&[443]));
    assert_eq!(list.allows_name("www.example.org", Some(80)), Verdict::Unlisted);
    assert_eq!(list.allows_name("example.org", Some(80)), allowed(&[80]));
}

#[test]
fn ranges_open_addresses_and_denied_ones_stay_closed() {
    let list = list(&["10.1.0.0/16", "!10.1.2.0/24", "!10.1.3.3:22", "1.2.3.4:53", "example.org"]);
    let allows = |address: &str, port| list.allows_address(address.parse().unwrap(), port);
    assert!(allows("10.1.0.1", 80) && allows("10.1.3.3", 80) && allows("1.2.3.4", 53));
    assert!(
        !allows("10.1.2.9", 80)
            && !allows("10.1.3.3", 22)
            && !allows("1.2.3.4", 80)
            && !allows("9.9.9.9", 80)
    );
    assert!(list.denies_address("10.1.2.255".parse().unwrap()));
    assert!(!list.denies_address("10.1.3.3".parse().unwrap()));
    assert_eq!((list.ranges().count(), list.denied_ranges().count()), (2, 2));
    let everything = self::list(&["!*"]);
    assert_eq!(everything.allows_name("example.org", None), Verdict::Denied);
}

#[test]
fn list_of_too_many_pieces_is_refused() {
    let texts: Vec<String> = (0..128)
        .map(|n| format!("10.0.{n}.0/24:{}", n + 1))
        .chain((0..40).map(|port| format!("10.0.0.0/8:{}", 1000 + port)))
        .collect();
    let why = List::parse(&texts).unwrap_err();
    assert!(matches!(why, EgressError::TooManyWindows(n) if n > 5000), "{why}");
}

#[test]
fn preset_stands_for_its_names() {
    let list = list(&["preset:pypi", "preset:debian"]);
    assert_eq!(list.allows_name("pypi.org", None), allowed(&[443]));
    assert_eq!(list.allows_name("deb.debian.org", None), allowed(&[80, 443]));
    assert_eq!(list.allows_name("evil.pypi.org", None), Verdict::Unlisted);
}

#[test]
fn list_stays_within_the_maximum_of_the_node() {
    let maximum = list(&[
        "*.example.org",
        "preset:pypi",
        "10.0.0.0/8",
        "!10.9.0.0/16",
        "!secret.example.org",
        "a.net:443",
    ]);
    for good in [
        &["www.example.org:443", "preset:pypi", "10.1.0.0/16", "a.net:443", "!other.net"][..],
        &["*.example.org", "!secret.example.org"],
        &["10.0.0.0/8:22", "!10.9.0.0/16"],
        &["pypi.org:443"],
        &[],
    ] {
        assert_eq!(list(good).within(&maximum), Ok(()), "{good:?}");
    }
    for (bad, part) in [
        (&["example.org"][..], "entry example.org is beyond"),
        (&["pypi.org"], "entry pypi.org is beyond"),
        (&["a.net:80"], "entry a.net:80 is beyond"),
        (&["*"], "entry * is beyond"),
        (&["preset:npm"], "entry preset:npm (registry.npmjs.org:443) is beyond"),
        (&["0.0.0.0/0"], "entry 0.0.0.0/0 is beyond"),
        (&["2001:db8::/32"], "entry 2001:db8::/32 is beyond"),
        (&["*.example.org"], "add !secret.example.org"),
        (&["secret.example.org", "!other.org"], "add !secret.example.org"),
        (&["10.9.1.0/24"], "add !10.9.0.0/16"),
        (&["10.0.0.0/8", "!10.9.0.0/17"], "add !10.9.0.0/16"),
    ] {
        let why = list(bad).within(&maximum).unwrap_err().to_string();
        assert!(why.contains(part), "{bad:?}: {why}");
    }
}

#[test]
fn changes_add_take_out_and_never_open_by_emptiness() {
    let own = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    let first = list(&["a.org", "b.org"]);
    let changed = |list: &List, add: &[&str], remove: &[&str]| {
        list.changed(&own(add), &own(remove)).map(|list| list.texts().join(",")).map_err(|e| e.to_string())
    };
    assert_eq!(changed(&first, &["c.org:443", "A.org"], &["b.org"]), Ok("a.org,c.org:443".into()));
    assert_eq!(changed(&first, &["!a.org"], &[]), Ok("b.org,!a.org".into()));
    let nothing = first.changed(&[], &own(&["a.org", "b.org"])).unwrap();
    assert_eq!(nothing.texts(), ["!*"]);
    assert_eq!(nothing.allows_name("a.org", None), Verdict::Denied);
    assert_eq!(changed(&nothing, &["x.org"], &[]), Ok("x.org".into()));
    let why = changed(&first, &[], &["c.org"]).unwrap_err();
    assert!(why.contains("no entry c.org; it is a.org,b.org"), "{why}");
    assert!(changed(&first, &["a b"], &[]).is_err());
}

#[test]
fn list_is_stored_as_its_texts() {
    let list = list(&["preset:git", "!gitlab.com", "10.0.0.0/8:22"]);
    let stored = serde_json::to_string(&list).unwrap();
    assert_eq!(stored, r#"["preset:git","!gitlab.com","10.0.0.0/8:22"]"#);
    assert_eq!(serde_json::from_str::<List>(&stored).unwrap(), list);
    assert!(serde_json::from_str::<List>(r#"["a b"]"#).is_err());
}

fn entries() -> impl Strategy<Value = String> {
    let name = "(\\*\\.)?[a-c]{1,2}(\\.[a-c]{1,2}){0,2}";
    let range = (any::<[u8; 4]>(), 0u8..=32).prop_map(|(address, bits)| {
        let mask = u32::MAX.checked_shl(32 - u32::from(bits)).unwrap_or(0);
        format!("{}/{bits}", std::net::Ipv4Addr::from(u32::from_be_bytes(address) & mask))
    });
    let port = prop_oneof![Just(String::new()), (1u16..=3).prop_map(|port| format!(":{port}"))];
    prop_oneof![
        (name, port.clone()).prop_map(|(n, p)| n + &p),
        (range, port).prop_map(|(r, p)| r + &p),
        name.prop_map(|n| format!("!{n}"))
    ]
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused_and_reads_the_same_again(text in "\\PC{0,40}|[!*.\\[\\]:/a-f0-9-]{0,30}") {
        if let Ok(list) = List::parse(&[text]) {
            prop_assert_eq!(&List::parse(list.texts()).unwrap(), &list);
        }
    }

    #[test]
    fn denied_name_is_allowed_by_no_other_entry(texts in prop::collection::vec(entries(), 0..12), name in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}") {
        let with = [&texts[..], &[format!("!{name}")]].concat();
        prop_assert_eq!(List::parse(&with).unwrap().allows_name(&name, None), Verdict::Denied);
    }

    #[test]
    fn list_within_another_allows_no_name_that_the_other_does_not(
        own in prop::collection::vec(entries(), 0..6),
        most in prop::collection::vec(entries(), 0..6),
        name in "[a-c]{1,2}(\\.[a-c]{1,2}){0,3}",
        port in 1u16..=3,
        address in any::<[u8; 4]>(),
    ) {
        let (own, most) = (List::parse(&own).unwrap(), List::parse(&most).unwrap());
        if own.within(&most).is_ok() {
            let allows = |list: &List| matches!(list.allows_name(&name, Some(port)), Verdict::Allowed(_));
            prop_assert!(!allows(&own) || allows(&most));
            let address = IpAddr::from(address);
            prop_assert!(!own.allows_address(address, port) || most.allows_address(address, port));
        }
        prop_assert_eq!(own.within(&own), Ok(()));
    }
}
