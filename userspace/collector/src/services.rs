//! Which service and container a process belongs to, told from its cgroup.

use std::sync::Arc;

/// What a cgroup says about its processes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Kubernetes workload, container or systemd unit; `None` where the command name has to serve.
    pub service: Option<Arc<str>>,
    /// Container id, or the name of a system container.
    pub container: Option<Arc<str>>,
}

/// Characters of a container id that people know it by.
const SHORT_ID: usize = 12;

/// Reads `/proc/<pid>/cgroup`, of version 1, 2 or both.
///
/// `host_name` is the process's own `/etc/hostname`: in a Kubernetes pod, the pod's name.
pub fn placement(cgroup: &str, host_name: Option<&str>) -> Placement {
    let paths = || cgroup.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    for path in paths() {
        if let Some(id) = container(path) {
            let service = match pod(path) {
                Some(pod) => host_name.map_or_else(|| format!("pod-{pod}"), |name| workload(name).to_owned()),
                None => id[..SHORT_ID.min(id.len())].to_owned(),
            };
            return Placement { service: Some(of_user(path, &service)), container: Some(id.into()) };
        }
    }
    if let Some((path, name)) = paths().find_map(|path| Some((path, system_container(path)?))) {
        let name = of_user(path, name);
        return Placement { service: Some(name.clone()), container: Some(name) };
    }
    let service = paths().find_map(|path| Some(of_user(path, unit(path)?)));
    Placement { service, container: None }
}

/// Whether the process is in a Kubernetes pod: not one in a cgroup of a user's own, who may call it what he likes.
pub fn in_pod(cgroup: &str) -> bool {
    cgroup.lines().any(|path| path.contains("kubepods") && user(path).is_none())
}

/// The name, or, below what systemd has given over to a user, `user-1000/name`: it must not pass for the system's.
fn of_user(path: &str, name: &str) -> Arc<str> {
    user(path).map_or_else(|| name.into(), |user| format!("{user}/{name}").into())
}

/// The user whose own a cgroup is: `user-1000` in `/user.slice/user-1000.slice/…`.
fn user(path: &str) -> Option<&str> {
    path.split('/').find_map(|part| {
        let user = part.strip_suffix(".slice")?;
        let id = user.strip_prefix("user-")?;
        // Root's own is the system's.
        (id != "0" && !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit())).then_some(user)
    })
}

/// Id of an OCI container: 64 hexadecimal digits, alone (`/docker/<id>`) or as `docker-<id>.scope`, `cri-containerd-<id>.scope`,
/// `crio-<id>.scope`, `libpod-<id>.scope`, `kubepods-…:cri-containerd:<id>`.
fn container(path: &str) -> Option<&str> {
    path.rsplit('/').find_map(|part| {
        let part = part.strip_suffix(".scope").unwrap_or(part);
        let id = part.rsplit(['-', ':']).next()?;
        let monitor = part.starts_with("libpod-conmon-") || part.starts_with("crio-conmon-");
        (id.len() == 64 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) && !monitor).then_some(id)
    })
}

/// First eight digits of a Kubernetes pod's id: `…/pod<id>/…`, or `…-pod<id with underscores>.slice`.
fn pod(path: &str) -> Option<&str> {
    if !in_pod(path) {
        return None;
    }
    path.split('/').find_map(|part| {
        let part = part.strip_suffix(".slice").unwrap_or(part);
        let id = part.strip_prefix("pod").or_else(|| part.rsplit_once("-pod").map(|(_, id)| id))?;
        (id.len() >= 32).then(|| &id[..8]).filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
    })
}

/// The workload that a pod's name begins with: `api-7d4b9c6f5-x2x8p` of a Deployment, `agent-x2x8p` of a DaemonSet,
/// `db-0` of a StatefulSet.
fn workload(pod: &str) -> &str {
    // Kubernetes makes random names without vowels and without what is easily misread (apimachinery, rand.go).
    let random = |text: &str| text.bytes().all(|byte| b"bcdfghjklmnpqrstvwxz2456789".contains(&byte));
    let Some((rest, last)) = pod.rsplit_once('-') else { return pod };
    if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) {
        return rest;
    }
    if last.len() != 5 || !random(last) {
        return pod;
    }
    match rest.rsplit_once('-') {
        Some((name, hash)) if (8..=10).contains(&hash.len()) && random(hash) => name,
        _ => rest,
    }
}

/// LXC and systemd-nspawn give their containers names.
fn system_container(path: &str) -> Option<&str> {
    let mut parts = path.split('/').peekable();
    while let Some(part) = parts.next() {
        if let Some(name) = part.strip_prefix("lxc.payload.") {
            return Some(name);
        }
        if part == "lxc" {
            return parts.next();
        }
        if let Some(name) = part.strip_prefix("machine-").and_then(|rest| rest.strip_suffix(".scope")) {
            return Some(name);
        }
    }
    None
}

/// The outermost systemd service: what is below it is named by the service itself, where it was given the cgroup. Not the manager
/// of a user's session, nor scopes, which are named by chance.
fn unit(path: &str) -> Option<&str> {
    path.split('/').filter_map(|part| part.strip_suffix(".service")).find(|name| !name.starts_with("user@"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "3f4b0c9d8e7a6b5c4d3e2f1a0b9c8d7e6f5a4b3c2d1e0f9a8b7c6d5e4f3a2b1c";

    fn check(cgroup: &str, host_name: Option<&str>, service: Option<&str>, container: Option<&str>) {
        let found = placement(&cgroup.replace("ID", ID), host_name);
        assert_eq!((found.service.as_deref(), found.container.as_deref()), (service, container), "{cgroup}");
    }

    #[test]
    fn systemd_units() {
        check("0::/system.slice/ssh.service\n", None, Some("ssh"), None);
        check(
            "0::/system.slice/system-postgresql.slice/postgresql@15-main.service",
            None,
            Some("postgresql@15-main"),
            None,
        );
        check("0::/system.slice/containerd.service/supervised", None, Some("containerd"), None);
        // Version 1 and hybrid: the unit stands in the line of `name=systemd`, and often in others.
        check(
            "12:pids:/system.slice/nginx.service\n11:cpuset:/\n1:name=systemd:/system.slice/nginx.service\n0::/",
            None,
            Some("nginx"),
            None,
        );
        check("0::/init.scope", None, None, None);
        check("0::/", None, None, None);
        check("", None, None, None);
    }

    #[test]
    fn sessions_of_users_are_no_services() {
        check("0::/user.slice/user-1000.slice/session-3.scope", None, None, None);
        check("0::/user.slice/user-1000.slice/user@1000.service/init.scope", None, None, None);
        check(
            "0::/user.slice/user-1000.slice/user@1000.service/app.slice/syncthing.service",
            None,
            Some("user-1000/syncthing"),
            None,
        );
        // Nor can they pass for the system's, whatever a user calls his own.
        let own = "0::/user.slice/user-1000.slice/user@1000.service";
        for (path, service) in [
            ("app.slice/postgresql@15-main.service", "user-1000/postgresql@15-main"),
            ("machine-db.scope", "user-1000/db"),
            ("lxc.payload.db", "user-1000/db"),
            ("kubepods/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/ID", &*format!("user-1000/{}", &ID[..12])),
        ] {
            let path = format!("{own}/{path}");
            assert_eq!(placement(&path.replace("ID", ID), None).service.as_deref(), Some(service), "{path}");
            assert!(!in_pod(&path), "{path}");
        }
        check("0::/user.slice/user-0.slice/user@0.service/app.slice/backup.service", None, Some("backup"), None);
        check("0::/system.slice/app.service/postgresql@15-main.service", None, Some("app"), None);
        check("0::/user.slice/user-1000.slice/user@1000.service/app.slice/app-firefox-4711.scope", None, None, None);
    }

    #[test]
    fn containers() {
        let (id, short) = (Some(ID), Some(&ID[..12]));
        let of_user = format!("user-1000/{}", &ID[..12]);
        let of_user = Some(&*of_user);
        check("0::/system.slice/docker-ID.scope", None, short, id);
        check("12:memory:/docker/ID\n1:name=systemd:/docker/ID", None, short, id);
        check("0::/machine.slice/libpod-ID.scope/container", None, short, id);
        check("0::/user.slice/user-1000.slice/user@1000.service/user.slice/libpod-ID.scope", None, of_user, id);
        check("0::/system.slice/containerd.service\n", None, Some("containerd"), None);
        check("0::/machine.slice/libpod-conmon-ID.scope", None, None, None);
        check("0::/default/ID", None, short, id);
        check("0::/lxc.payload.web1/system.slice/cron.service", None, Some("web1"), Some("web1"));
        check("4:memory:/lxc/db/init.scope", None, Some("db"), Some("db"));
        check("0::/machine.slice/machine-build.scope/payload", None, Some("build"), Some("build"));
    }

    #[test]
    fn kubernetes() {
        let id = Some(ID);
        let systemd = "0::/kubepods.slice/kubepods-burstable.slice/\
                       kubepods-burstable-pod0a1b2c3d_4e5f_6071_8293_a4b5c6d7e8f9.slice/cri-containerd-ID.scope";
        check(systemd, None, Some("pod-0a1b2c3d"), id);
        check(systemd, Some("api-7d4b9c6f5-x2x8p"), Some("api"), id);
        check("11:cpu:/kubepods/besteffort/pod0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9/ID", None, Some("pod-0a1b2c3d"), id);
        check(systemd, Some("node-exporter-b6kzx"), Some("node-exporter"), id);
        check(systemd, Some("postgres-0"), Some("postgres"), id);
        check(systemd, Some("worker1"), Some("worker1"), id);
    }
}
