use proptest::prelude::*;

use super::*;

/// A question as a C library sends it.
fn asked(name: &str, kind: u16, edns: Option<u16>) -> Vec<u8> {
    let name = Name::of(name).unwrap();
    Question { id: 0x1234, name, kind, edns, flags: RECURSION, dnssec: false }.forwarded(0x1234)
}

fn question(name: &str, kind: u16, edns: Option<u16>) -> Question {
    Question::read(&asked(name, kind, edns)).unwrap()
}

fn record(owner: &str, kind: u16, data: &[u8]) -> Record {
    Record { owner: Name::of(owner).unwrap(), kind, ttl: 300, data: data.to_vec() }
}

#[test]
fn question_is_read_as_it_was_written() {
    let q = question("Www.Example.org", kind::A, None);
    assert_eq!((q.name.to_string().as_str(), q.kind, q.id, q.room()), ("www.example.org", 1, 0x1234, 512));
    assert!(q.name.bytes().starts_with(b"\x03Www"), "the case comes back as it was sent");
    for (size, room) in [(0u16, PLAIN), (600, 600), (4096, MOST)] {
        let mut bytes = asked("a.b", kind::TXT, Some(1232));
        let at = bytes.len() - 8;
        bytes[at..at + 2].copy_from_slice(&size.to_be_bytes());
        assert_eq!(Question::read(&bytes).unwrap().room(), room);
    }
}

#[test]
fn odd_questions_are_refused_or_passed_over() {
    let good = asked("example.org", kind::A, Some(1232));
    let changed = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        Question::read(&bytes)
    };
    let refused = |code| Err(Odd::Refused(0x1234, code));
    assert!(Question::read(&good).is_ok());
    assert_eq!(changed(2, 0x80), Err(Odd::Noise), "an answer");
    assert_eq!(changed(2, 0x08), refused(code::NOTIMP), "another operation");
    assert_eq!(changed(5, 0), refused(code::FORMERR), "no question");
    assert_eq!(changed(5, 2), refused(code::FORMERR), "two questions");
    assert_eq!(changed(7, 1), refused(code::FORMERR), "an answer in a question");
    assert_eq!(changed(11, 2), refused(code::FORMERR), "more than EDNS");
    assert_eq!(changed(11, 0), refused(code::FORMERR), "bytes behind the end");
    assert_eq!(changed(12, 0xc0), refused(code::FORMERR), "a pointer into the header");
    let class = good.len() - 12;
    assert_eq!(changed(class, 3), refused(code::REFUSED), "the class of version.bind");
    assert_eq!(changed(good.len() - 5, 1), refused(code::FORMERR), "a version of EDNS");
    for length in 0..good.len() {
        assert!(Question::read(&good[..length]).is_err(), "{length} bytes");
    }
    assert_eq!(Question::read(&good[..11]), Err(Odd::Noise));
}

#[test]
fn answers_are_matched_with_their_questions() {
    let q = question("example.org", kind::A, None);
    let answer = q.answer(code::NOERROR, &[record("example.org", kind::A, &[1, 2, 3, 4])], None, 512);
    assert!(Answer::of(&answer, 0x1234, &q));
    assert!(!Answer::of(&answer, 0x1235, &q));
    assert!(!Answer::of(&answer, 0x1234, &question("example.com", kind::A, None)));
    assert!(!Answer::of(&answer, 0x1234, &question("example.org", kind::TXT, None)));
    assert!(!Answer::of(&q.forwarded(0x1234), 0x1234, &q), "a question is no answer");
    let read = Answer::read(&answer).unwrap();
    assert_eq!(read.records[0].ipv4(), Some([1, 2, 3, 4].into()));
}

#[test]
fn answer_without_room_is_truncated_and_keeps_its_error() {
    let q = question("example.org", kind::TXT, None);
    let long = vec![record("example.org", kind::TXT, &[9; 200]); 4];
    let cut = q.answer(code::NOERROR, &long, None, q.room());
    assert!(cut.len() <= 512 && Answer::read(&cut).unwrap().truncated);
    assert!(!Answer::read(&q.answer(code::NOERROR, &long, None, 65_535)).unwrap().truncated);
    let relayed = q.relayed(&q.answer(code::NOERROR, &long, None, 65_535), q.room());
    assert!(relayed.len() <= 512 && Answer::read(&relayed).unwrap().truncated);
    let blocked =
        question("example.org", kind::A, Some(1232)).refused(code::NXDOMAIN, Some(extended::BLOCKED));
    assert!(blocked.ends_with(&[0, 6, 0, 15, 0, 2, 0, 15]), "{blocked:?}");
    assert_eq!(Answer::code_of(&blocked), code::NXDOMAIN);
}

#[test]
fn names_in_records_lose_their_compression() {
    let q = question("example.org", kind::MX, None);
    let mut bytes = q.answer(code::NOERROR, &[], None, 512);
    bytes[7] = 1;
    // MX 10 mail.<example.org>
    bytes.extend([0xc0, 12, 0, 15, 0, 1, 0, 0, 1, 44, 0, 9, 0, 10, 4, b'm', b'a', b'i', b'l', 0xc0, 12]);
    let read = Answer::read(&bytes).unwrap();
    assert_eq!(read.records[0].data, [&[0, 10][..], Name::of("mail.example.org").unwrap().bytes()].concat());
    let again = q.answer(code::NOERROR, &read.records, None, 512);
    assert_eq!(Answer::read(&again).unwrap().records, read.records);
    // The length of the data says something else than the name in it.
    let length = bytes.len() - 10;
    bytes[length] = 8;
    assert_eq!(Answer::read(&bytes), Err(Broken));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = Question::read(&bytes);
        let _ = Answer::read(&bytes);
        let q = question("example.org", kind::A, None);
        let _ = Answer::of(&bytes, 0x1234, &q);
    }

    #[test]
    fn messages_with_some_bytes_changed_are_read_or_refused(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..12),
        cut in any::<proptest::sample::Index>(),
    ) {
        let q = question("a.example.org", kind::A, Some(1232));
        let alias = record("a.example.org", kind::CNAME, Name::of("b.example.org").unwrap().bytes());
        let records = [alias, record("b.example.org", kind::A, &[1, 2, 3, 4])];
        let mut answer = q.answer(code::NOERROR, &records, None, 1232);
        let mut asked = asked("a.example.org", kind::A, Some(1232));
        for (at, byte) in changes {
            *at.get_mut(&mut answer) = byte;
            *at.get_mut(&mut asked) = byte;
        }
        if let Ok(read) = Question::read(&asked) {
            let written = read.forwarded(read.id);
            let again = Question::read(&written).unwrap();
            prop_assert_eq!((again.name, again.kind, again.id), (read.name, read.kind, read.id));
        }
        if let Ok(read) = Answer::read(&answer) {
            let again = q.answer(read.code, &read.records, None, 65_535);
            prop_assert_eq!(Answer::read(&again).unwrap().records.len(), read.records.len());
        }
        let _ = Answer::read(&answer[..cut.index(answer.len())]);
    }
}
