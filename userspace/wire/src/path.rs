//! Paths of requests folded into templates, so that `GET /users/17?tab=a` and `GET /users/18` are one operation.
//!
//! The query is dropped, and so are parameters within a segment (`;jsessionid=…`). Segments, or their parts between
//! `-`, `_`, `.`, that look like an id, and not like a name, become `{id}`, `{uuid}`, `{hash}`, `{email}` or `{token}`.
//! Patterns of the configuration come before that. What else a service puts into its paths is bounded: only so many
//! operations of a service are told apart at a time, further ones are `GET /users/{rest}`.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use hashbrown::{HashMap, HashSet};

use crate::{connection::Context, settings::Settings, sql::Operation};

mod segment;

pub(crate) use segment::fold as fold_segment;

/// Operations told apart per service, unless said otherwise.
pub const DEFAULT_MAX_OPERATIONS: usize = 256;
/// Operations told apart at a time, all services together.
const MAX_TOTAL: usize = 32 << 10;
/// Services followed at a time.
const MAX_SCOPES: usize = 4096;
/// An operation that was not used for so long makes room for another, ns.
const IDLE_NS: u64 = 600_000_000_000;
/// How often it is looked for such, ns.
const PRUNE_NS: u64 = 10_000_000_000;
/// Segments of a path that are looked at.
const MAX_SEGMENTS: usize = 24;
/// A template is not longer, but for what its last segment takes, bytes.
const MAX_TEMPLATE_BYTES: usize = 256;

/// A path as an operator describes it: `/api/users/*/orders`, `/users/{user}/…`.
///
/// `*` and `{name}` stand for any one segment, `**` as the last segment for all that follow. Anything else is meant
/// literally. The operation shows the pattern as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PathPattern(Arc<str>);

/// Why a text is no [`PathPattern`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidPattern {
    pattern: String,
    why: &'static str,
}

impl fmt::Display for InvalidPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is no pattern of a path: {}", self.pattern, self.why)
    }
}

impl std::error::Error for InvalidPattern {}

impl TryFrom<String> for PathPattern {
    type Error = InvalidPattern;

    fn try_from(pattern: String) -> Result<Self, InvalidPattern> {
        let why = if !pattern.starts_with('/') {
            "it must begin with /"
        } else if pattern.contains(['?', '#']) || pattern.contains(char::is_whitespace) {
            "the query is no part of it, nor are blanks"
        } else if pattern.strip_suffix("/**").unwrap_or(&pattern).split('/').any(|segment| segment == "**") {
            "** can only be its last segment"
        } else if pattern.len() > MAX_TEMPLATE_BYTES {
            "it is too long"
        } else {
            return Ok(Self(pattern.into()));
        };
        Err(InvalidPattern { pattern, why })
    }
}

impl From<PathPattern> for String {
    fn from(pattern: PathPattern) -> Self {
        pattern.0.as_ref().into()
    }
}

impl PathPattern {
    fn matches(&self, path: &[u8]) -> bool {
        let mut segments = path.split(|byte| *byte == b'/');
        for wanted in self.0.as_bytes().split(|byte| *byte == b'/') {
            let Some(segment) = segments.next() else { return false };
            let any = || !segment.is_empty();
            let matches = match wanted {
                b"**" => return true,
                b"*" => any(),
                [b'{', .., b'}'] => any(),
                _ => wanted == segment,
            };
            if !matches {
                return false;
            }
        }
        segments.next().is_none()
    }
}

/// How paths are folded, and the operations seen: a handle, cheap to clone.
#[derive(Clone, Debug)]
pub struct Paths(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    patterns: Vec<PathPattern>,
    max_operations: usize,
    table: Mutex<Table>,
}

impl Paths {
    /// The first pattern that matches wins. `max_operations`: told apart per service.
    pub fn new(patterns: Vec<PathPattern>, max_operations: usize) -> Self {
        Self(Arc::new(Shared { patterns, max_operations: max_operations.max(1), table: Mutex::default() }))
    }
}

impl Default for Paths {
    fn default() -> Self {
        Self::new(Vec::new(), DEFAULT_MAX_OPERATIONS)
    }
}

#[derive(Debug, Default)]
struct Table {
    scopes: HashMap<u64, Scope>,
    total: usize,
    pruned_ns: u64,
    scratch: String,
}

/// What is known of one service.
#[derive(Debug, Default)]
struct Scope {
    operations: HashMap<Arc<str>, Known>,
    /// Their first segments.
    firsts: HashSet<Box<str>>,
}

#[derive(Debug)]
struct Known {
    id: u64,
    used_ns: u64,
}

/// The operation of a request with this method and target, as of `time_ns`.
///
/// `target` is what stands in a request line or in `:path`: a path with or without query, an absolute URL, `*`; `cut`:
/// more of it was there. For `CONNECT` it is the method alone. Counted as `paths_over_limit`, where the service has
/// too many operations and this one is folded into a coarse form.
pub(crate) fn operation(method: &[u8], target: &[u8], cut: bool, time_ns: u64, context: &mut Context<'_>) -> Operation {
    let (operation, coarse) = find(context.settings, context.scope, method, target, cut, time_ns);
    context.lost("paths_over_limit", u64::from(coarse));
    operation
}

fn find(settings: &Settings, scope: u64, method: &[u8], target: &[u8], cut: bool, time_ns: u64) -> (Operation, bool) {
    let shared = &*settings.paths.0;
    let mut table = shared.table.lock().unwrap_or_else(PoisonError::into_inner);
    let mut text = std::mem::take(&mut table.scratch);
    text.clear();
    push(&mut text, method);
    let method_bytes = text.len() + 1;
    if method != b"CONNECT" {
        text.push(' ');
        template(&mut text, target, cut, &shared.patterns);
    }
    let found = table.admit(scope, &text, method_bytes, time_ns, shared.max_operations, settings);
    table.scratch = text;
    found
}

impl Table {
    fn admit(
        &mut self,
        scope: u64,
        text: &str,
        method_bytes: usize,
        time_ns: u64,
        max_operations: usize,
        settings: &Settings,
    ) -> (Operation, bool) {
        if let Some(operation) = self.known(scope, text, time_ns) {
            return (operation, false);
        }
        if !self.has_room(scope, max_operations) && time_ns.abs_diff(self.pruned_ns) >= PRUNE_NS {
            self.prune(time_ns);
        }
        let has_room = self.has_room(scope, max_operations);
        let scope = self.scopes.entry(scope).or_default();
        let first = first_segment(text.get(method_bytes..).unwrap_or_default());
        if has_room {
            let operation = settings.operations.named(text);
            scope.operations.insert(operation.text.clone(), Known { id: operation.id, used_ns: time_ns });
            if !scope.firsts.contains(first) {
                scope.firsts.insert(first.into());
            }
            self.total += 1;
            return (operation, false);
        }
        let method = text.get(..method_bytes).unwrap_or(text);
        let coarse = match scope.firsts.contains(first) {
            true => format!("{method}{first}/{{rest}}"),
            false => format!("{method}/{{rest}}"),
        };
        (settings.operations.named(&coarse), true)
    }

    fn known(&mut self, scope: u64, text: &str, time_ns: u64) -> Option<Operation> {
        let operations = &mut self.scopes.get_mut(&scope)?.operations;
        let (text, known) = operations.get_key_value_mut(text)?;
        known.used_ns = time_ns;
        Some(Operation { text: text.clone(), id: known.id })
    }

    fn has_room(&self, scope: u64, max_operations: usize) -> bool {
        self.total < MAX_TOTAL
            && match self.scopes.get(&scope) {
                Some(scope) => scope.operations.len() < max_operations,
                None => self.scopes.len() < MAX_SCOPES,
            }
    }

    /// Forgets what was not used for long.
    fn prune(&mut self, time_ns: u64) {
        self.pruned_ns = time_ns;
        self.scopes.retain(|_, scope| {
            scope.operations.retain(|_, known| time_ns.saturating_sub(known.used_ns) < IDLE_NS);
            scope.firsts.clear();
            for text in scope.operations.keys() {
                let path = text.find(' ').map_or("", |blank| &text[blank + 1..]);
                scope.firsts.insert(first_segment(path).into());
            }
            !scope.operations.is_empty()
        });
        self.total = self.scopes.values().map(|scope| scope.operations.len()).sum();
    }
}

/// `/users` of `/users/{id}`.
fn first_segment(template: &str) -> &str {
    let end = template.get(1..).and_then(|rest| rest.find('/')).map_or(template.len(), |end| end + 1);
    &template[..end]
}

/// Printable text as it is, `?` for all other bytes.
fn push(text: &mut String, bytes: &[u8]) {
    text.extend(bytes.iter().map(|byte| if byte.is_ascii_graphic() { char::from(*byte) } else { '?' }));
}

/// The path of a target: without query and fragment, nor scheme and authority of an absolute one.
pub(crate) fn path(target: &[u8]) -> &[u8] {
    let end = target.iter().position(|byte| matches!(byte, b'?' | b'#')).unwrap_or(target.len());
    let target = &target[..end];
    if target.first() != Some(&b'/')
        && let Some(scheme) = target.windows(3).position(|window| window == b"://")
    {
        let rest = &target[scheme + 3..];
        return rest.iter().position(|byte| *byte == b'/').map_or(b"/", |slash| &rest[slash..]);
    }
    target
}

/// The authority of an absolute target, without the user's name and password.
pub(crate) fn authority(target: &[u8]) -> Option<&[u8]> {
    if target.first() == Some(&b'/') {
        return None;
    }
    let rest = &target[target.windows(3).position(|window| window == b"://")? + 3..];
    let end = rest.iter().position(|byte| matches!(byte, b'/' | b'?' | b'#')).unwrap_or(rest.len());
    let host = rest[..end].rsplit(|byte| *byte == b'@').next()?;
    (!host.is_empty()).then_some(host)
}

/// Appends the template of a target.
fn template(text: &mut String, target: &[u8], cut: bool, patterns: &[PathPattern]) {
    let whole = path(target);
    // What was cut off may be of the query.
    let cut = cut && whole.len() == target.len();
    if !cut && let Some(pattern) = patterns.iter().find(|pattern| pattern.matches(whole)) {
        text.push_str(&pattern.0);
        return;
    }
    let start = text.len();
    let mut segments = whole.split(|byte| *byte == b'/').enumerate().peekable();
    while let Some((index, segment)) = segments.next() {
        if index > 0 {
            text.push('/');
        }
        let cut = cut && segments.peek().is_none();
        if cut || index > MAX_SEGMENTS || text.len() - start > MAX_TEMPLATE_BYTES {
            text.push('…');
            return;
        }
        segment::fold(text, segment);
    }
    if text.len() == start {
        text.push('/');
    }
}

#[cfg(test)]
mod tests;
