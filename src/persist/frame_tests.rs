use proptest::prelude::*;

use super::*;

fn job() -> impl Strategy<Value = JobId> {
    any::<u64>().prop_map(|_| JobId::random())
}

fn reached() -> impl Strategy<Value = Reached> {
    (any::<u64>(), any::<u64>()).prop_map(|(rows, sample_bytes)| Reached { rows, sample_bytes })
}

fn frame() -> impl Strategy<Value = Frame> {
    let stream = prop_oneof![Just(Stream::Stdout), Just(Stream::Stderr)];
    let note = prop_oneof![Just(Note::Progress), Just(Note::Complete), Just(Note::Deleted), Just(Note::Busy)];
    prop_oneof![
        (".{0,40}", ".{0,40}").prop_map(|(boot_id, instance)| Frame::Hello { boot_id, instance }),
        (job(), reached(), any::<u64>(), any::<i64>(), 0u32..8).prop_map(
            |(job, reached, released, created_ns, more)| Frame::Spool {
                job,
                reached,
                released,
                created_ns,
                files: Files(more * 2 + 1)
            }
        ),
        (job(), reached()).prop_map(|(job, reached)| Frame::Rows { job, reached }),
        (job(), reached(), any::<i64>()).prop_map(|(job, reached, ended_ns)| Frame::EndOfJob {
            job,
            reached,
            ended_ns
        }),
        (job(), reached(), note).prop_map(|(job, reached, note)| Frame::Ack { job, reached, note }),
        job().prop_map(|job| Frame::DeleteJob { job }),
        (job(), stream, any::<i64>(), any::<u64>(), prop::collection::vec(any::<u8>(), 0..300)).prop_map(
            |(job, stream, time_ns, sequence, content)| Frame::Log {
                version: 1,
                job,
                stream,
                time_ns,
                sequence,
                content
            }
        ),
    ]
}

fn read(reader: &mut FrameReader) -> Vec<Frame> {
    std::iter::from_fn(|| reader.next_frame().unwrap()).collect()
}

proptest! {
    #[test]
    fn messages_cut_anywhere_are_read_once_and_in_order(
        frames in prop::collection::vec(frame(), 0..12),
        cuts in prop::collection::vec(1usize..200, 1..40),
    ) {
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        let mut reader = FrameReader::new(1 << 20);
        let (mut rest, mut got) = (&bytes[..], Vec::new());
        for cut in cuts.iter().cycle() {
            let (head, tail) = rest.split_at((*cut).min(rest.len()));
            reader.push(head);
            got.extend(read(&mut reader));
            rest = tail;
            if rest.is_empty() {
                break;
            }
        }
        prop_assert_eq!(got, frames);
        prop_assert!(!reader.is_inside());
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0u32..300) {
        for text in [bytes.clone(), [length.to_be_bytes().to_vec(), bytes].concat()] {
            let mut reader = FrameReader::new(4096);
            reader.push(&text);
            while let Ok(Some(_)) = reader.next_frame() {}
        }
    }
}

#[test]
fn message_that_is_too_long_is_refused_before_it_comes() {
    let mut reader = FrameReader::new(4096);
    reader.push(&u32::MAX.to_be_bytes());
    let why = reader.next_frame().unwrap_err().to_string();
    assert!(
        why.contains("4294967295 bytes") && why.contains("persist.ipc.max_message_size is 4096"),
        "{why}"
    );
}

#[test]
fn message_of_unknown_type_or_job_is_passed_over() {
    let unknown = IPCMessage { version: 1, type_: EnumOrUnknown::from_i32(7), ..Default::default() };
    let foreign =
        IPCMessage { type_: MessageType::MESSAGE_TYPE_LOG.into(), job_id: "../x".into(), ..unknown.clone() };
    for message in [unknown, foreign] {
        assert_eq!(Frame::decode(&message.write_to_bytes().unwrap()).unwrap(), Frame::Other);
    }
}

#[test]
fn spool_without_an_index_is_refused() {
    let spool = ipc::Spool { descriptors: 2, ..Default::default() };
    let message = about(Some(&JobId::random()), MessageType::MESSAGE_TYPE_SPOOL, 1, &spool);
    assert!(Frame::decode(&message.write_to_bytes().unwrap()).is_err());
}
