//! A guest whose first program is systemd: whether the units of `packaging/` give hitscope what it needs, and no more.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::image::Image;
use super::machine::Machine;
use crate::workspace::{PROGRAMS, Workspace};

/// Beside which lie its own programs.
const SYSTEMD: &str = "/lib/systemd/systemd";
/// Of systemd's own units those without which nothing starts.
const UNITS: [&str; 10] = [
    "basic.target",
    "local-fs.target",
    "multi-user.target",
    "network.target",
    "paths.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "sysinit.target",
    "timers.target",
];

const INIT: &str = "#!/usr/bin/busybox sh\nexec /usr/lib/systemd/systemd\n";
/// There is no journal.
const MANAGER: &str = "[Manager]\nDefaultStandardOutput=kmsg\nLogTarget=kmsg\nShowStatus=no\n";
const LOOK: &str = "[Unit]\nAfter=hitscope.service hitscope-server.service\n[Service]\nType=oneshot\nTTYPath=/dev/ttyS0\nStandardOutput=tty\n\
                    StandardError=tty\nExecStart=/usr/bin/busybox sh /look\n";
const TARGET: &str =
    "[Unit]\nRequires=basic.target\nAfter=basic.target\nWants=hitscope.service hitscope-server.service look.service\n";

/// How many tests [`SCRIPT`] has.
pub const TESTS: u64 = 12;

/// Says what came of it as the runners of tests do.
const SCRIPT: &str = r#"export PATH=/usr/bin:/usr/sbin:/usr/local/bin LC_ALL=C
/usr/bin/busybox --install -s /usr/bin
echo "guest: up $(uname -r)"
passed=0 failed=0
test_that() {
    if eval "$2"; then passed=$((passed + 1)); echo "test unit::$1 ... ok"
    else failed=$((failed + 1)); echo "test unit::$1 ... FAILED: $2"; fi
}
# Waits for what is to come true, emulated.
comes() { for second in $(seq 60); do eval "$1" && return; sleep 1; done; return 1; }
rows() { hitscope query --format csv "$1" 2>/dev/null | tail -n +2 | tr '\n' ' '; }
pid() { systemctl show --property MainPID --value "$1"; }
# Does something as the server's user, in its group.
as_server() { su -s /usr/bin/sh hitscope-server -c "$1" 2>/dev/null; }
capabilities() { sed -n 's/^CapEff:\t//p' "/proc/$1/status"; }

ip link set lo up
mkdir /tmp/www
echo hello > /tmp/www/hello
httpd -p 8080 -h /tmp/www
running() { [ "$(hitscope status 2>/dev/null | grep -c '^probe .* running')" = 5 ]; }
test_that every_probe_runs 'comes running'
first=$(pid hitscope)
# CAP_DAC_READ_SEARCH, CAP_SYS_PTRACE and CAP_SYS_ADMIN; CAP_BPF and CAP_PERFMON were for loading.
test_that what_is_not_needed_is_given_up '[ "$(capabilities "$first")" = 0000000000280004 ]'
server=$(pid hitscope-server)
test_that the_server_has_no_privileges '[ "$(capabilities "$server")" = 0000000000000000 ]'
harmless() {
    as_server "kill -0 $server" && ! as_server "kill -9 $first" && as_server "cat /var/lib/hitscope/status.json" > /dev/null || return
    for folder in . open history history/hits open/hits; do
        as_server "touch /var/lib/hitscope/$folder/x" && return 1
    done
    as_server "touch /var/lib/hitscope/server/x"
}
test_that the_server_can_neither_end_the_collector_nor_write_the_history harmless
test_that the_page_is_served 'comes "wget -q -O - http://127.0.0.1:7460/ | grep -q html"'
# The workers that answered are known by their samples.
sleep 6
for number in 1 2 3 4 5 6 7 8 9 10; do wget -q -O /dev/null http://127.0.0.1:8080/hello; done
hits() { [ "$(rows "SELECT side, sum(calls) FROM operations WHERE operation = 'GET /hello' GROUP BY 1 ORDER BY 1")" = "client,10 server,10 " ]; }
test_that both_sides_are_seen 'comes hits'
kill -9 "$first"
# Of systemd itself it has to wait a moment.
again() { [ "$(systemctl is-active hitscope)" = active ] && [ "$(pid hitscope)" != "$first" ] && running; }
test_that it_comes_again_after_a_kill 'comes again'
test_that nothing_was_lost_by_it 'hits'
systemctl reload hitscope hitscope-server
sleep 1
test_that a_reload_ends_nothing '[ "$(pid hitscope-server)" = "$server" ] && [ "$(systemctl show --property NRestarts --value hitscope)" = 1 ]'
kill -9 "$server"
apart() { [ "$(systemctl is-active hitscope-server)" = active ] && [ "$(pid hitscope-server)" != "$server" ]; }
test_that the_server_comes_again_and_the_collector_stays 'comes apart && [ "$(systemctl show --property NRestarts --value hitscope)" = 1 ]'
systemctl stop hitscope hitscope-server
ended() { [ "$(systemctl show --property Result --value "$1")" = success ]; }
test_that they_stop_in_order 'ended hitscope && ended hitscope-server'
test_that no_uprobe_is_left '! dmesg | grep "leaking uprobe"'
word=ok
[ "$failed" = 0 ] || { word=FAILED; systemctl status hitscope hitscope-server --no-pager --full; hitscope status; dmesg | tail -n 40; }
echo "test result: $word. $passed passed; $failed failed; 0 ignored; 0 measured; 0 filtered out"
echo "guest: ended $failed"
poweroff -f
"#;

/// Writes the archive.
pub fn write(workspace: &Workspace, to: &Path) -> Result<()> {
    let mut image = Image::create(to, Machine::X86_64, Path::new("/"), INIT)?;
    image.users(
        "hitscope:x:990:990::/:/usr/sbin/nologin\nhitscope-server:x:991:991::/:/usr/sbin/nologin\n",
        "hitscope:x:990:hitscope-server\nhitscope-server:x:991:\n",
    )?;
    for name in PROGRAMS {
        image.program(&workspace.program(name), &Path::new("/usr/bin").join(name))?;
    }
    let beside = Path::new(SYSTEMD).parent().context("a folder")?;
    for path in [Path::new(SYSTEMD), &beside.join("systemd-shutdown"), &beside.join("systemd-cgroups-agent")] {
        image.debian(path)?;
    }
    image.tool("systemctl")?;
    for unit in UNITS {
        let path = beside.join("system").join(unit);
        image.archive.copy(&path, &path, 0)?;
    }
    for name in ["hitscope.service", "hitscope-server.service"] {
        let unit = fs::read_to_string(workspace.root.join("packaging").join(name)).context("reading a unit")?;
        image.archive.text(&format!("/etc/systemd/system/{name}"), 0o644, &unit)?;
    }
    for (path, text) in [
        ("/etc/systemd/system/look.service", LOOK),
        ("/etc/systemd/system/default.target", TARGET),
        ("/etc/systemd/system.conf", MANAGER),
        ("/etc/machine-id", "0123456789abcdef0123456789abcdef\n"),
        ("/etc/hostname", "guest\n"),
        ("/look", SCRIPT),
    ] {
        image.archive.text(path, 0o644, text)?;
    }
    for folder in ["/var/lib", "/var/log", "/var/tmp"] {
        image.archive.folder(Path::new(folder), 0o755, 0)?;
    }
    image.archive.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tests_are_counted() {
        assert_eq!(SCRIPT.matches("\ntest_that ").count() as u64, TESTS);
    }
}
