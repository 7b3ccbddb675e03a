//! DNS names of addresses, as the answers told that processes received.
//!
//! What a process itself was told goes before what others on the host were: two names often share an address. A name
//! outlives its answer's time to live, since processes keep connections and addresses for longer; a newer answer replaces
//! it. Memory is bounded: names live in two halves, and when the younger is full, it becomes the older.

use std::{hash::Hash, net::IpAddr, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hitscope_wire::dns::Answer;

/// Names in one half.
const HALF: usize = 8192;
/// A name is kept at least this long after it was learnt or used, ns.
const SHORTEST_NS: u64 = 3600 * 1_000_000_000;
/// And, unless used, no longer than this after it was learnt, ns.
const LONGEST_NS: u64 = 24 * SHORTEST_NS;

#[derive(Clone)]
struct Name {
    name: Arc<str>,
    until_ns: u64,
}

struct Halves<K> {
    younger: HashMap<K, Name, FixedState>,
    older: HashMap<K, Name, FixedState>,
}

impl<K> Default for Halves<K> {
    fn default() -> Self {
        Self { younger: HashMap::default(), older: HashMap::default() }
    }
}

impl<K: Hash + Eq> Halves<K> {
    /// Remembers a name; returns how many that are not out of date had to go.
    fn insert(&mut self, key: K, name: Name, now_ns: u64) -> u64 {
        let mut lost = 0;
        if self.younger.len() >= HALF && !self.younger.contains_key(&key) {
            let gone = std::mem::replace(&mut self.older, std::mem::take(&mut self.younger));
            let kept = |key| self.older.contains_key(key);
            lost = gone.iter().filter(|(key, name)| name.until_ns > now_ns && !kept(*key)).count() as u64;
        }
        self.younger.insert(key, name);
        lost
    }

    /// The name, which then is kept for longer.
    fn get(&mut self, key: K, now_ns: u64) -> Option<Arc<str>> {
        let mut found = match self.younger.get(&key) {
            Some(found) => found.clone(),
            None => self.older.get(&key)?.clone(),
        };
        if found.until_ns <= now_ns {
            return None;
        }
        found.until_ns = found.until_ns.max(now_ns + SHORTEST_NS);
        let name = found.name.clone();
        self.insert(key, found, now_ns);
        Some(name)
    }
}

/// Names of addresses. Times are monotonic.
#[derive(Default)]
pub struct Names {
    by_process: Halves<(u32, IpAddr)>,
    by_host: Halves<IpAddr>,
}

impl Names {
    /// Takes in an answer that a process received; returns how many names had to make room before their time.
    pub fn learn(&mut self, pid: u32, answer: &Answer, now_ns: u64) -> u64 {
        let text: Arc<str> = answer.name.as_str().into();
        let mut lost = 0;
        for (address, ttl) in &answer.addresses {
            let life_ns = (u64::from(*ttl) * 1_000_000_000).clamp(SHORTEST_NS, LONGEST_NS);
            let name = Name { name: text.clone(), until_ns: now_ns + life_ns };
            let address = address.to_canonical();
            lost += self.by_process.insert((pid, address), name.clone(), now_ns);
            lost += self.by_host.insert(address, name, now_ns);
        }
        lost
    }

    /// The name that led a process to an address: as it was told itself, or else as another on the host was.
    pub fn get(&mut self, pid: u32, address: IpAddr, now_ns: u64) -> Option<Arc<str>> {
        self.by_process.get((pid, address), now_ns).or_else(|| self.by_host.get(address, now_ns))
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOUR: u64 = SHORTEST_NS;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from_bits(number).into()
    }

    fn answer(name: &str, number: u32, ttl: u32) -> Answer {
        Answer { name: name.into(), addresses: vec![(address(number), ttl)] }
    }

    #[test]
    fn a_process_knows_its_own_names_and_else_those_of_the_host() {
        let mut names = Names::default();
        names.learn(1, &answer("a.example", 7, 60), 0);
        names.learn(2, &answer("b.example", 7, 60), 1);
        assert_eq!(names.get(1, address(7), 2).as_deref(), Some("a.example"));
        assert_eq!(names.get(2, address(7), 2).as_deref(), Some("b.example"));
        assert_eq!(names.get(3, address(7), 2).as_deref(), Some("b.example"));
        names.learn(1, &answer("c.example", 7, 60), 3);
        assert_eq!(names.get(1, address(7), 4).as_deref(), Some("c.example"));
        assert_eq!(names.get(1, address(8), 4), None);
    }

    #[test]
    fn names_last_while_used_and_for_their_time() {
        let mut names = Names::default();
        names.learn(1, &answer("short.example", 7, 5), 0);
        names.learn(1, &answer("long.example", 8, 7200), 0);
        names.learn(1, &answer("longest.example", 9, u32::MAX), 0);
        assert!(names.get(1, address(7), HOUR - 1).is_some());
        assert!(names.get(1, address(7), 2 * HOUR - 2).is_some());
        assert!(names.get(1, address(7), 3 * HOUR).is_none());
        assert!(names.get(1, address(8), 2 * HOUR - 1).is_some());
        assert!(names.get(1, address(8), 3 * HOUR - 1).is_none());
        assert!(names.get(1, address(9), 24 * HOUR).is_none());
    }

    #[test]
    fn memory_is_bounded_and_what_goes_early_is_counted() {
        let mut names = Names::default();
        let mut lost = 0;
        for number in 0..5 * HALF as u32 {
            lost += names.learn(1, &answer("x.example", number, 60), 0);
            assert!(names.get(1, address(0), 0).is_some(), "what is used stays");
        }
        let held = names.by_host.younger.len() + names.by_host.older.len();
        assert!(held <= 2 * HALF, "{held}");
        assert!(lost > 4 * HALF as u64, "{lost}");
    }
}
