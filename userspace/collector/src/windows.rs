//! Hits become windows: counted exactly by latency bucket and by operation, and kept one by one where they failed or were
//! slow; of the fast ones a sample is kept, whose weights sum to their number.
//!
//! Rows are written each second with what came since; the partial rows of a window are added up as its cube closes.

mod sample;

use std::{rc::Rc, sync::Arc};

use foldhash::fast::FixedState;
use hashbrown::HashMap;
use hitscope_schemas::{latency, tables};
use hitscope_wire::{Exchange, Facts, Status, Times};

use self::sample::Sample;
use crate::{
    rows::Rows,
    settings::{Settings, window_start},
};

/// What hits beyond the most operations that are followed are counted as.
pub const OTHER: &str = "<other>";
/// No hash of an operation's text: `<other>` has none.
const OTHER_ID: u64 = 0;
/// Services × protocols × sides followed at a time.
const MAX_GROUPS: usize = 4096;
/// Seconds without a hit after which an operation is forgotten, and after which a group.
const IDLE_OPERATION: u32 = 60;
const IDLE_GROUP: u32 = 300;

/// Where a hit was seen: what its connection and process give to its row.
#[derive(Clone, Debug)]
pub struct Origin {
    /// Process.
    pub pid: u32,
    /// Container id, where the process is in one.
    pub container: Option<Arc<str>>,
    /// The other end: an IP address, or `unix`.
    pub remote_address: Arc<str>,
    /// 0 for Unix sockets.
    pub remote_port: u16,
    /// 0 for Unix sockets.
    pub local_port: u16,
}

/// Names one service, protocol and side; as long as it is held, the windows keep its counters.
#[derive(Clone, Debug)]
pub struct GroupId(Rc<u32>);

struct Group {
    id: GroupId,
    service: Arc<str>,
    protocol: Arc<str>,
    side: Arc<str>,
    window_start: i64,
    /// Hits and errors by bucket; given back when idle.
    buckets: Option<Box<[(u64, u64); latency::BUCKETS]>>,
    touched: Vec<u16>,
    idle: u32,
}

impl Group {
    fn write(&mut self, rows: &mut Vec<tables::Hitmap>) {
        let Some(buckets) = &mut self.buckets else { return };
        for bucket in self.touched.drain(..) {
            let (hits, errors) = std::mem::take(&mut buckets[usize::from(bucket)]);
            let (bucket_low_ns, bucket_high_ns) = latency::bounds(usize::from(bucket));
            rows.push(tables::Hitmap {
                window_start: self.window_start,
                service: self.service.clone(),
                protocol: self.protocol.clone(),
                side: self.side.clone(),
                bucket_low_ns,
                bucket_high_ns,
                hits,
                errors,
            });
        }
    }
}

struct Operation {
    name: Arc<str>,
    id: u64,
    window_start: i64,
    calls: u64,
    errors: u64,
    total_ns: u64,
    min_ns: u64,
    max_ns: u64,
    rows: u64,
    request_bytes: u64,
    response_bytes: u64,
    /// Of the calls of which it is known.
    split: Option<Times>,
    sample: Sample,
    idle: u32,
}

impl Operation {
    fn new(name: Arc<str>, id: u64) -> Self {
        Self {
            name,
            id,
            window_start: 0,
            calls: 0,
            errors: 0,
            total_ns: 0,
            min_ns: u64::MAX,
            max_ns: 0,
            rows: 0,
            request_bytes: 0,
            response_bytes: 0,
            split: None,
            sample: Sample::default(),
            idle: 0,
        }
    }

    /// Writes what was counted and kept since the last time, and begins anew.
    fn write(&mut self, group: &Group, rows: &mut Rows) {
        if self.calls == 0 {
            return;
        }
        rows.operations.push(tables::Operation {
            window_start: self.window_start,
            service: group.service.clone(),
            protocol: group.protocol.clone(),
            side: group.side.clone(),
            operation: self.name.clone(),
            operation_id: self.id,
            calls: self.calls,
            errors: self.errors,
            total_ns: self.total_ns,
            min_ns: self.min_ns,
            max_ns: self.max_ns,
            rows: self.rows,
            request_bytes: self.request_bytes,
            response_bytes: self.response_bytes,
            cpu_ns: self.split.map(|split| split.cpu_ns),
            lock_ns: self.split.map(|split| split.lock_ns),
            disk_ns: self.split.map(|split| split.disk_ns),
        });
        self.sample.write(&mut rows.hits);
        let (name, sample) = (self.name.clone(), std::mem::take(&mut self.sample));
        *self = Self { sample, ..Self::new(name, self.id) };
    }
}

/// A hit's measures on the wall clock.
#[derive(Clone, Copy, Debug)]
pub struct Measures {
    /// When the answer was complete, ns since the epoch.
    pub end_ns: i64,
    /// From the request to the answer, ns.
    pub duration_ns: u64,
    /// Where that time of the handling thread went, where known; what is missing to the duration went elsewhere.
    pub split: Option<Times>,
    /// How long the request had lain in the socket before the process read it, ns, where known.
    pub queued_ns: Option<u64>,
}

/// The counters of the current second.
pub struct Windows {
    settings: Settings,
    slow_ns: u64,
    groups: Vec<Option<Group>>,
    group_ids: HashMap<(Arc<str>, &'static str, &'static str), u32, FixedState>,
    operations: HashMap<(u32, u64), Operation, FixedState>,
    /// Names of protocols, sides and statuses, made once.
    names: Vec<(&'static str, Arc<str>)>,
    other: Arc<str>,
    random: sample::Random,
    /// Hits counted as `<other>`.
    overflowed: u64,
    hits: u64,
    /// What was written as the window of an operation or group passed.
    rows: Rows,
}

impl Windows {
    /// With nothing counted.
    pub fn new(settings: &Settings) -> Self {
        Self {
            slow_ns: settings.slow_ns(),
            settings: settings.clone(),
            groups: Vec::new(),
            group_ids: HashMap::default(),
            operations: HashMap::default(),
            names: Vec::new(),
            other: OTHER.into(),
            random: sample::Random::default(),
            overflowed: 0,
            hits: 0,
            rows: Rows::default(),
        }
    }

    /// The group that a connection's hits count for.
    pub fn group(&mut self, service: &Arc<str>, protocol: &'static str, side: &'static str) -> GroupId {
        let full = self.group_ids.len() >= MAX_GROUPS;
        let key = (service.clone(), protocol, side);
        let key = if full && !self.group_ids.contains_key(&key) { (self.other.clone(), protocol, side) } else { key };
        if let Some(id) = self.group_ids.get(&key)
            && let Some(group) = &self.groups[*id as usize]
        {
            return group.id.clone();
        }
        let free = self.groups.iter().position(Option::is_none).unwrap_or(self.groups.len());
        if free == self.groups.len() {
            self.groups.push(None);
        }
        let id = GroupId(Rc::new(free as u32));
        self.groups[free] = Some(Group {
            id: id.clone(),
            service: key.0.clone(),
            protocol: self.name(protocol),
            side: self.name(side),
            window_start: 0,
            buckets: None,
            touched: Vec::new(),
            idle: 0,
        });
        self.group_ids.insert(key, free as u32);
        id
    }

    /// Counts a hit, and keeps it or not.
    pub fn add(&mut self, group: &GroupId, origin: &Origin, session: &Facts, measures: Measures, exchange: Exchange) {
        self.hits += 1;
        let failed = !matches!(exchange.status, Status::Ok);
        let status = self.name(exchange.status.as_str());
        let window = window_start(measures.end_ns);
        let index = *group.0;
        let group = self.groups[index as usize].as_mut().expect("a held group stays");

        group.idle = 0;
        if group.window_start != window {
            group.write(&mut self.rows.hitmap);
            group.window_start = window;
        }
        let bucket = latency::bucket(measures.duration_ns);
        let buckets = group.buckets.get_or_insert_with(|| Box::new([(0, 0); latency::BUCKETS]));
        if buckets[bucket].0 == 0 {
            group.touched.push(bucket as u16);
        }
        buckets[bucket].0 += 1;
        buckets[bucket].1 += u64::from(failed);

        let key = (index, exchange.operation_id);
        let operation = if self.operations.len() < self.settings.max_operations {
            self.operations
                .entry(key)
                .or_insert_with(|| Operation::new(exchange.operation.clone(), exchange.operation_id))
        } else if self.operations.contains_key(&key) {
            self.operations.get_mut(&key).expect("looked up above")
        } else {
            self.overflowed += 1;
            let other = &self.other;
            self.operations.entry((index, OTHER_ID)).or_insert_with(|| Operation::new(other.clone(), OTHER_ID))
        };
        operation.idle = 0;
        if operation.window_start != window {
            operation.write(group, &mut self.rows);
            operation.window_start = window;
        }
        operation.calls += 1;
        operation.errors += u64::from(failed);
        operation.total_ns += measures.duration_ns;
        operation.min_ns = operation.min_ns.min(measures.duration_ns);
        operation.max_ns = operation.max_ns.max(measures.duration_ns);
        operation.rows += exchange.rows.unwrap_or(0);
        operation.request_bytes += exchange.request_bytes;
        operation.response_bytes += exchange.response_bytes;
        if let Some(split) = &measures.split {
            let sum = operation.split.get_or_insert_default();
            sum.cpu_ns += split.cpu_ns;
            sum.lock_ns += split.lock_ns;
            sum.disk_ns += split.disk_ns;
        }

        let slow = measures.duration_ns >= self.slow_ns;
        let (name, id) = (&operation.name, operation.id);
        let keep = || tables::Hit {
            end_time: measures.end_ns,
            duration_ns: measures.duration_ns,
            protocol: group.protocol.clone(),
            side: group.side.clone(),
            service: group.service.clone(),
            pid: origin.pid,
            thread_id: exchange.end.thread_id,
            container: origin.container.clone(),
            remote_address: origin.remote_address.clone(),
            remote_port: origin.remote_port,
            local_port: origin.local_port,
            encrypted: session.encrypted,
            user: session.user.clone(),
            database: session.database.clone(),
            application: session.application.clone(),
            authority: exchange.authority,
            operation: name.clone(),
            operation_id: id,
            status,
            error_code: exchange.error_code,
            error_message: exchange.error_message,
            rows: exchange.rows,
            request_bytes: exchange.request_bytes,
            response_bytes: exchange.response_bytes,
            cpu_ns: measures.split.map(|split| split.cpu_ns),
            runqueue_ns: measures.split.map(|split| split.runqueue_ns),
            disk_ns: measures.split.map(|split| split.disk_ns),
            lock_ns: measures.split.map(|split| split.lock_ns),
            network_ns: measures.split.map(|split| split.network_ns),
            queued_ns: measures.queued_ns,
            text: exchange.text,
            weight: 1,
        };
        operation.sample.offer(&self.settings, &mut self.random, failed, slow, measures.duration_ns, keep);
    }

    /// Writes what was counted and kept since the last flush.
    pub fn flush(&mut self, rows: &mut Rows) {
        rows.append(&mut self.rows);
        let groups = &self.groups;
        self.operations.retain(|(group, _), operation| {
            let group = groups[*group as usize].as_ref().expect("operations are forgotten before their group");
            operation.write(group, rows);
            operation.idle += 1;
            operation.idle <= IDLE_OPERATION
        });
        for slot in &mut self.groups {
            let Some(group) = slot else { continue };
            group.write(&mut rows.hitmap);
            group.idle += 1;
            if group.idle > IDLE_OPERATION {
                group.buckets = None;
            }
            if group.idle > IDLE_GROUP && Rc::strong_count(&group.id.0) == 1 {
                let index = *group.id.0;
                self.group_ids.retain(|_, id| *id != index);
                *slot = None;
            }
        }
    }

    /// Hits counted as `<other>` since the start.
    pub fn overflowed(&self) -> u64 {
        self.overflowed
    }

    /// Hits counted since the start.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    fn name(&mut self, name: &'static str) -> Arc<str> {
        match self.names.iter().find(|(known, _)| *known == name) {
            Some((_, found)) => found.clone(),
            None => {
                let made: Arc<str> = name.into();
                self.names.push((name, made.clone()));
                made
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
