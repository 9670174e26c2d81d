//! The kernel's packet filter, nftables: tables, chains, rules, sets and their elements, by netlink and without a program.
//!
//! Every change is a [`Transaction`]: the kernel makes all of it or nothing, and no packet sees a part. [`expression`]
//! has the words of rules; a rule is a list of them. Sources: linux/netfilter/nf_tables.h, nft(8) and libnftnl.

pub mod expression;
pub mod set;

use std::collections::BTreeSet;

use super::netlink::batch::{Attributes, Batch, attribute};
use super::netlink::{NetlinkError, Socket};
use expression::{Expression, LIST_ENTRY, Verdict};
use set::{Element, ElementState, Set};

/// Message types that frame a transaction (linux/netfilter/nfnetlink.h).
const BEGIN: u16 = 16;
const END: u16 = 17;
/// The number of the packet filter among the users of nfnetlink, which is the upper half of its types.
const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const GET_CHAIN: u16 = 4;
const NEW_RULE: u16 = 6;
const GET_RULE: u16 = 7;
const DELETE_RULE: u16 = 8;
const NEW_SET: u16 = 9;
const GET_SET: u16 = 10;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
/// Flags of requests.
const CREATE: u16 = 0x400;
const APPEND: u16 = 0x800;
const DUMP: u16 = 0x300;

const TABLE: u16 = 1;
/// The second attribute of most messages: the name of what is in the table.
const NAME: u16 = 2;
const CHAIN_NAME: u16 = 3;
const CHAIN_HOOK: u16 = 4;
const CHAIN_POLICY: u16 = 5;
const CHAIN_TYPE: u16 = 7;
const RULE_HANDLE: u16 = 3;
const RULE_EXPRESSIONS: u16 = 4;
const ELEMENTS: u16 = 3;
/// Elements of one message: the length of an attribute has 16 bits.
const AT_ONCE: usize = 400;

/// The packets that a table sees (linux/netfilter.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layer {
    /// IPv4 and IPv6.
    Inet = 1,
    /// The packets of IPv4 alone.
    Ipv4 = 2,
    /// The packets of IPv6 alone.
    Ipv6 = 10,
}

/// A table by its layer and its name.
#[derive(Debug, Clone, Copy)]
pub struct Table<'a> {
    /// The packets that it sees.
    pub layer: Layer,
    /// Its name in that layer.
    pub name: &'a str,
}

/// The place where a chain begins to see packets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// All that come in, before their way is known.
    Prerouting = 0,
    /// Those for this namespace.
    Input = 1,
    /// Those that pass through.
    Forward = 2,
    /// All that leave, at last.
    Postrouting = 4,
}

/// The kind of a chain at a hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It accepts and drops.
    Filter,
    /// It changes addresses; it sees the first packet of a connection.
    Nat,
}

/// A chain that sees packets by itself.
#[derive(Debug, Clone, Copy)]
pub struct Base {
    /// Filter or address translation.
    pub kind: Kind,
    /// Where it sees packets.
    pub hook: Hook,
    /// Chains of one hook come in this order.
    pub priority: i32,
    /// Whether a packet that no rule decides on is accepted.
    pub accept: bool,
}

/// Changes that the kernel makes all at once.
#[derive(Debug)]
pub struct Transaction {
    batch: Batch,
    sets: u32,
    modules: BTreeSet<&'static str>,
}

impl Default for Transaction {
    fn default() -> Self {
        let mut batch = Batch::default();
        batch.message(BEGIN, 0, &fixed(0, SUBSYSTEM), |_| {});
        Transaction { batch, sets: 0, modules: BTreeSet::from(["nf_tables"]) }
    }
}

impl Transaction {
    fn add(&mut self, kind: u16, flags: u16, table: Table<'_>, write: impl FnOnce(&mut Attributes<'_>)) {
        self.batch.message(SUBSYSTEM << 8 | kind, flags, &fixed(table.layer as u8, 0), |a| {
            a.text(TABLE, table.name);
            write(a);
        });
    }

    /// Makes a table, if there is none of that name.
    pub fn add_table(&mut self, table: Table<'_>) {
        self.add(NEW_TABLE, CREATE, table, |_| {});
    }

    /// Removes a table with all that is in it, whether there is one or not.
    pub fn remove_table(&mut self, table: Table<'_>) {
        // To delete what is not there is refused.
        self.add_table(table);
        self.add(DELETE_TABLE, 0, table, |_| {});
    }

    /// Makes a chain: one that sees packets, or (`None`) one that rules lead to.
    pub fn add_chain(&mut self, table: Table<'_>, name: &str, base: Option<Base>) {
        if base.is_some_and(|base| base.kind == Kind::Nat) {
            self.modules.insert("nft_chain_nat");
        }
        self.add(NEW_CHAIN, CREATE, table, |a| {
            a.text(CHAIN_NAME, name);
            let Some(base) = base else { return };
            a.text(CHAIN_TYPE, if base.kind == Kind::Nat { "nat" } else { "filter" });
            let policy = if base.accept { Verdict::Accept } else { Verdict::Drop };
            a.be32(CHAIN_POLICY, policy.code().cast_unsigned());
            a.nest(CHAIN_HOOK, |a| {
                a.be32(1, base.hook as u32);
                a.be32(2, base.priority.cast_unsigned());
            });
        });
    }

    /// Adds a rule at the end of a chain.
    pub fn add_rule(&mut self, table: Table<'_>, chain: &str, rule: &[Expression<'_>]) {
        self.rule(table, chain, rule, APPEND);
    }

    /// Adds a rule at the beginning of a chain.
    pub fn insert_rule(&mut self, table: Table<'_>, chain: &str, rule: &[Expression<'_>]) {
        self.rule(table, chain, rule, 0);
    }

    /// Removes a rule of a chain.
    pub fn remove_rule(&mut self, table: Table<'_>, chain: &str, rule: &RuleState) {
        self.add(DELETE_RULE, 0, table, |a| {
            a.text(NAME, chain);
            a.be64(RULE_HANDLE, rule.handle);
        });
    }

    fn rule(&mut self, table: Table<'_>, chain: &str, rule: &[Expression<'_>], flags: u16) {
        self.modules.extend(rule.iter().filter_map(Expression::module));
        self.add(NEW_RULE, CREATE | flags, table, |a| {
            a.text(NAME, chain);
            a.nest(RULE_EXPRESSIONS, |a| {
                for expression in rule {
                    a.nest(LIST_ENTRY, |a| expression.write(a));
                }
            });
        });
    }

    /// Makes an empty set, if there is none of that name.
    pub fn add_set(&mut self, table: Table<'_>, set: &Set<'_>) {
        self.sets += 1;
        let number = self.sets;
        self.add(NEW_SET, CREATE, table, |a| {
            a.text(NAME, set.name);
            set.write(a, number);
        });
    }

    /// Puts elements into a set. One that is there already stays as it is.
    pub fn add_elements(&mut self, table: Table<'_>, set: &Set<'_>, elements: &[Element]) {
        self.elements(NEW_ELEMENT, CREATE, table, set, elements);
    }

    /// Takes elements out of a set; refused where one is not there.
    pub fn remove_elements(&mut self, table: Table<'_>, set: &Set<'_>, elements: &[Element]) {
        self.elements(DELETE_ELEMENT, 0, table, set, elements);
    }

    /// Takes all elements out of a set.
    pub fn empty(&mut self, table: Table<'_>, set: &Set<'_>) {
        self.add(DELETE_ELEMENT, 0, table, |a| a.text(NAME, set.name));
    }

    fn elements(&mut self, kind: u16, flags: u16, table: Table<'_>, set: &Set<'_>, elements: &[Element]) {
        for some in elements.chunks(AT_ONCE) {
            self.add(kind, flags, table, |a| {
                a.text(NAME, set.name);
                a.nest(ELEMENTS, |a| some.iter().for_each(|element| element.write(a, set)));
            });
        }
    }

    /// The kernel modules that have what is added here; each of them loads those that it needs itself.
    pub fn modules(&self) -> &BTreeSet<&'static str> {
        &self.modules
    }

    /// Has the kernel make the changes.
    ///
    /// # Errors
    /// The first refusal; nothing is changed then.
    pub fn commit(self, socket: &mut Socket) -> Result<(), NetlinkError> {
        socket.talk(&mut self.finish())
    }

    fn finish(mut self) -> Batch {
        self.batch.confirm_last();
        // Without it the kernel answers "done" and changes nothing.
        self.batch.message(END, 0, &fixed(0, SUBSYSTEM), |_| {});
        self.batch
    }
}

/// The fixed part of every message, `struct nfgenmsg`.
fn fixed(layer: u8, resource: u16) -> [u8; 4] {
    let [high, low] = resource.to_be_bytes();
    [layer, 0, high, low]
}

fn request(kind: u16, flags: u16, layer: Layer, write: impl FnOnce(&mut Attributes<'_>)) -> Batch {
    let mut batch = Batch::default();
    batch.message(SUBSYSTEM << 8 | kind, flags, &fixed(layer as u8, 0), write);
    batch
}

/// Whether the kernel's answer to a question for one thing was that there is none.
fn exists(asked: Result<(), NetlinkError>) -> Result<bool, NetlinkError> {
    match asked {
        Ok(()) => Ok(true),
        Err(why) if why.errno() == Some(libc::ENOENT) => Ok(false),
        Err(why) => Err(why),
    }
}

/// Whether there is such a table.
///
/// # Errors
/// The kernel has no packet filter, or does not answer.
pub fn has_table(socket: &mut Socket, table: Table<'_>) -> Result<bool, NetlinkError> {
    exists(socket.talk(&mut request(GET_TABLE, 0, table.layer, |a| a.text(TABLE, table.name)).confirm()))
}

/// Whether there is such a chain in the table.
///
/// # Errors
/// As [`has_table`].
pub fn has_chain(socket: &mut Socket, table: Table<'_>, chain: &str) -> Result<bool, NetlinkError> {
    let ask = request(GET_CHAIN, 0, table.layer, |a| {
        a.text(TABLE, table.name);
        a.text(CHAIN_NAME, chain);
    });
    exists(socket.talk(&mut ask.confirm()))
}

/// Whether there is such a set in the table.
///
/// # Errors
/// As [`has_table`].
pub fn has_set(socket: &mut Socket, table: Table<'_>, set: &str) -> Result<bool, NetlinkError> {
    let ask = request(GET_SET, 0, table.layer, |a| {
        a.text(TABLE, table.name);
        a.text(NAME, set);
    });
    exists(socket.talk(&mut ask.confirm()))
}

/// Whether a chain drops what no rule decides on; `None` where there is no such chain, or none that sees packets itself.
///
/// # Errors
/// As [`has_table`].
pub fn drops(socket: &mut Socket, table: Table<'_>, chain: &str) -> Result<Option<bool>, NetlinkError> {
    let ask = request(GET_CHAIN, 0, table.layer, |a| {
        a.text(TABLE, table.name);
        a.text(CHAIN_NAME, chain);
    });
    let policy = |_, body: &[u8]| Some(attribute(body.get(4..)?, CHAIN_POLICY)?.to_vec());
    match socket.dump(&mut ask.confirm(), policy) {
        Ok(found) => Ok(found.first().map(|policy| policy[..] == [0; 4])),
        Err(why) if why.errno() == Some(libc::ENOENT) => Ok(None),
        Err(why) => Err(why),
    }
}

/// A rule as the kernel writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleState {
    handle: u64,
    /// The bytes of its expressions.
    pub expressions: Vec<u8>,
}

impl RuleState {
    /// Whether an expression has this text, such as the name of an interface.
    pub fn names(&self, text: &str) -> bool {
        // A name is longer than another that begins alike.
        let text = [text.as_bytes(), &[0]].concat();
        self.expressions.windows(text.len()).any(|window| window == text)
    }
}

/// The rules of a chain, in their order.
///
/// # Errors
/// There is no such chain, or the kernel does not answer.
pub fn rules(socket: &mut Socket, table: Table<'_>, chain: &str) -> Result<Vec<RuleState>, NetlinkError> {
    let mut ask = request(GET_RULE, DUMP, table.layer, |a| {
        a.text(TABLE, table.name);
        a.text(NAME, chain);
    });
    socket.dump(&mut ask, |_, body| {
        let rest = body.get(4..)?;
        let handle = u64::from_be_bytes(attribute(rest, RULE_HANDLE)?.try_into().ok()?);
        Some(RuleState { handle, expressions: attribute(rest, RULE_EXPRESSIONS)?.to_vec() })
    })
}

/// The elements of a set. Those of a set of intervals that has one field come as beginnings and ends.
///
/// # Errors
/// There is no such set, or the kernel does not answer.
pub fn elements(
    socket: &mut Socket,
    table: Table<'_>,
    set: &Set<'_>,
) -> Result<Vec<ElementState>, NetlinkError> {
    let mut ask = request(GET_ELEMENT, DUMP, table.layer, |a| {
        a.text(TABLE, table.name);
        a.text(NAME, set.name);
    });
    let answers = socket.dump(&mut ask, |_, body| Some(body.get(4..).unwrap_or_default().to_vec()))?;
    let lists = answers.iter().filter_map(|body| attribute(body, ELEMENTS));
    Ok(lists.flat_map(ElementState::read_all).collect())
}

#[cfg(test)]
mod tests {
    use super::expression::{Direction, Expression as E};
    use super::set::Field;
    use super::*;
    use crate::sys::netlink::batch::hex;

    const T: Table<'_> = Table { layer: Layer::Inet, name: "t" };

    /// The bytes that nft(8) 1.0.6 sends for the same, but for our confirmation, its user data and a zero.
    #[test]
    fn transaction_has_the_bytes_that_nft_sends() {
        let mut t = Transaction::default();
        t.add_table(T);
        t.add_chain(T, "refuse", None);
        let base = Base { kind: Kind::Filter, hook: Hook::Prerouting, priority: -300, accept: true };
        t.add_chain(T, "pre", Some(base));
        let networks = Set::of("networks", &[Field::Ipv4, Field::Ipv4]).intervals();
        t.add_set(T, &networks);
        let range = ([172, 20, 0, 0], [172, 20, 255, 255]);
        let both = |a: [u8; 4]| [a, a].concat();
        t.add_elements(T, &networks, &[Element::range(&both(range.0), &both(range.1))]);
        t.add_rule(T, "pre", &[E::group(Direction::In, 7), vec![E::Verdict(Verdict::Drop)]].concat());
        let expected = "
            14000000 1000 0100 00000000 00000000  00 00 000a
            1c000000 000a 0104 01000000 00000000  01 00 0000  06000100 74000000
            28000000 030a 0104 02000000 00000000  01 00 0000  06000100 74000000  0b000300 72656675736500 00
            4c000000 030a 0104 03000000 00000000  01 00 0000  06000100 74000000  08000300 70726500
              0b000700 66696c74657200 00  08000500 00000001  14000480 08000100 00000000 08000200 fffffed4
            6c000000 090a 0104 04000000 00000000  01 00 0000  06000100 74000000  0d000200 6e6574776f726b7300 000000
              08000300 00000084  08000400 000001c7  08000500 00000008  08000a00 00000001
              20000980 1c000280 0c000180 08000100 00000004 0c000180 08000100 00000004
            54000000 0c0a 0104 05000000 00000000  01 00 0000  06000100 74000000  0d000200 6e6574776f726b7300 000000
              28000380 24000180 10000180 0c000100 ac140000 ac140000 10000a80 0c000100 ac14ffff ac14ffff
            a8000000 060a 050c 06000000 00000000  01 00 0000  06000100 74000000  08000200 70726500
              84000480
                24000180 09000100 6d65746100 000000 14000280 08000100 00000001 08000200 00000015
                2c000180 08000100 636d7000 20000280 08000100 00000001 08000200 00000000 0c000380 08000100 07000000
                30000180 0e000100 696d6d65646961746500 0000
                  1c000280 08000100 00000000 10000280 0c000280 08000100 00000000
            14000000 1100 0100 07000000 00000000  00 00 000a";
        let mut batch = t.finish();
        let (got, expected) = (batch.numbered(0).to_vec(), hex(expected));
        let differs = got.iter().zip(&expected).position(|(a, b)| a != b);
        assert_eq!((differs, got.len()), (None, expected.len()));
    }
}
