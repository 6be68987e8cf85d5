// SPDX-License-Identifier: GPL-2.0
//! Network interfaces: who has the default route, and by which the caller has come.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::root::Root;

use super::{Hurt, Use, Uses, class_devices};

pub(super) fn read(root: &Root, all: &mut Uses) {
    let routes = Routes::read(root);
    let default = routes.defaults();
    let ssh = ssh_client(root).and_then(|client| routes.to(client));
    for (name, owner) in class_devices(root, "net") {
        let Some(owner) = owner else {
            continue;
        };
        let mut used = Use::new("net", &name);
        let dir = format!("sys/class/net/{name}");
        if root.text(&format!("{dir}/operstate")).as_deref() == Some("up") {
            used.what.push("up".to_owned());
        }
        let above = above(root, &name);
        if above.iter().any(|name| default.contains(name)) {
            used.missed("default route", Hurt::Data);
        }
        if ssh.as_ref().is_some_and(|name| above.contains(name)) {
            used.missed("your ssh", Hurt::Data);
        }
        all.add(owner, used);
    }
    for (name, owner) in class_devices(root, "infiniband") {
        if let Some(owner) = owner {
            all.add(owner, Use::new("infiniband", name));
        }
    }
}

/// An interface, and those that are made of it: bridges, bonds, VLANs.
fn above(root: &Root, name: &str) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    let mut todo = vec![name.to_owned()];
    while let Some(name) = todo.pop() {
        if !all.insert(name.clone()) {
            continue;
        }
        let entries = root.names(&format!("sys/class/net/{name}"));
        let uppers = entries
            .iter()
            .filter_map(|entry| entry.strip_prefix("upper_"));
        todo.extend(uppers.map(str::to_owned));
    }
    all
}

/// A way to some addresses: the first bits of them, how many, and the interface.
#[derive(Debug)]
struct Route {
    net: u128,
    bits: u32,
    is_v6: bool,
    name: String,
}

#[derive(Debug)]
struct Routes(Vec<Route>);

impl Routes {
    fn read(root: &Root) -> Self {
        let v4 = root.text("proc/net/route").unwrap_or_default();
        let v6 = root.text("proc/net/ipv6_route").unwrap_or_default();
        let all = v4.lines().skip(1).filter_map(v4_route);
        Self(all.chain(v6.lines().filter_map(v6_route)).collect())
    }

    fn defaults(&self) -> BTreeSet<String> {
        let all = self.0.iter().filter(|route| route.bits == 0);
        all.map(|route| route.name.clone()).collect()
    }

    /// The interface by which `address` is reached.
    fn to(&self, address: IpAddr) -> Option<String> {
        let (number, width, is_v6) = match address {
            IpAddr::V4(a) => (u128::from(a.to_bits()), 32, false),
            IpAddr::V6(a) => (a.to_bits(), 128, true),
        };
        let leads = |route: &&Route| {
            let rest: u32 = width - route.bits.min(width);
            let cut = |n: u128| n.checked_shr(rest).unwrap_or(0);
            route.is_v6 == is_v6 && cut(number) == cut(route.net)
        };
        let best = self.0.iter().filter(leads).max_by_key(|route| route.bits)?;
        (best.name != "lo").then(|| best.name.clone())
    }
}

/// Interface, destination, gateway, flags, three counts, mask; the numbers as they are in memory.
fn v4_route(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().collect();
    let number = |at: usize| {
        u32::from_str_radix(words.get(at)?, 16)
            .ok()
            .map(u32::swap_bytes)
    };
    let flags = u32::from_str_radix(words.get(3)?, 16).ok()?;
    // Up, and no refusal.
    if flags & 0x201 != 1 {
        return None;
    }
    Some(Route {
        net: u128::from(Ipv4Addr::from_bits(number(1)?).to_bits()),
        bits: number(7)?.count_ones(),
        is_v6: false,
        name: (*words.first()?).to_owned(),
    })
}

/// Destination, its bits, source, its bits, next hop, metric, two counts, flags, interface.
fn v6_route(line: &str) -> Option<Route> {
    let words: Vec<_> = line.split_whitespace().collect();
    let flags = u32::from_str_radix(words.get(8)?, 16).ok()?;
    let name = *words.get(9)?;
    // As above; the route that refuses all is the loopback's.
    if flags & 0x201 != 1 || name == "lo" {
        return None;
    }
    Some(Route {
        net: u128::from_str_radix(words.first()?, 16).ok()?,
        bits: u32::from_str_radix(words.get(1)?, 16).ok()?,
        is_v6: true,
        name: name.to_owned(),
    })
}

/// From where the caller has come by ssh. sudo takes that from the environment, so the parents are
/// asked, too.
pub(crate) fn ssh_client(root: &Root) -> Option<IpAddr> {
    let mut process = "self".to_owned();
    for _ in 0..32 {
        let bytes = root
            .bytes(&format!("proc/{process}/environ"))
            .unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        let words = text.split(['\0', '\n']);
        let found = words
            .filter_map(|word| word.strip_prefix("SSH_CONNECTION="))
            .find_map(|value| parse_address(value.split(' ').next()?));
        if found.is_some() {
            return found;
        }
        let status = root.text(&format!("proc/{process}/status"))?;
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        process = parent.trim().to_owned();
        if process == "0" || process == "1" {
            break;
        }
    }
    None
}

fn parse_address(text: &str) -> Option<IpAddr> {
    let text = text.split('%').next()?;
    let address: IpAddr = text.parse().ok()?;
    match address {
        IpAddr::V6(v6) => Some(v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)),
        v4 @ IpAddr::V4(_) => Some(v4),
    }
    .filter(|address| *address != IpAddr::V6(Ipv6Addr::LOCALHOST))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn routes() -> Routes {
        let v4 = [
            "eno1\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0",
            "br0\t0001A8C0\t00000000\t0001\t0\t0\t100\t00FFFFFF\t0\t0\t0",
            "eno2\t0000000A\t00000000\t0201\t0\t0\t0\t000000FF\t0\t0\t0",
        ];
        let v6 = "20010db8000000000000000000000000 20 00000000000000000000000000000000 00 \
                  00000000000000000000000000000000 00000100 00000001 00000000 00000001 eno3";
        let all = v4.iter().filter_map(|line| v4_route(line));
        Routes(all.chain(v6_route(v6)).collect())
    }

    #[test]
    fn the_longest_way_wins() -> anyhow::Result<()> {
        let routes = routes();
        let to = |text: &str| -> anyhow::Result<Option<String>> { Ok(routes.to(text.parse()?)) };
        assert_eq!(to("192.168.1.7")?.as_deref(), Some("br0"));
        assert_eq!(
            to("10.0.0.1")?.as_deref(),
            Some("eno1"),
            "a refusal is no way"
        );
        assert_eq!(to("2001:db8::1")?.as_deref(), Some("eno3"));
        assert_eq!(to("2001:db9::1")?, None);
        assert_eq!(routes.defaults(), BTreeSet::from(["eno1".to_owned()]));
        Ok(())
    }

    #[test]
    fn addresses_as_ssh_writes_them() {
        let is = |text: &str| parse_address(text).map(|a| a.to_string());
        assert_eq!(is("192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(is("fe80::1%eno1").as_deref(), Some("fe80::1"));
        assert_eq!(is("::ffff:192.0.2.1").as_deref(), Some("192.0.2.1"));
        assert_eq!(is("::1"), None);
        assert_eq!(is("UNKNOWN"), None);
    }
}
