//! Carrying the CPUs' parts of all zones' and nodes' counters over.
//!
//! ```text
//! now and then, on each CPU (vmstat_update)   refresh_cpu_vm_stats: 0 when the CPU has been quiet
//! before a CPU goes idle for long             quiet_vmstat
//! when a CPU has been taken offline           cpu_vm_stats_fold
//! ```
//!
//! # Not here
//! When that is: a worker of the kernel. The parts: [`crate::counters`].

use super::{Node, Nodes};
use crate::arch::{self, IrqGuard};
use crate::id::CpuId;
use crate::zone::Zone;

impl Nodes {
    /// Carries all of this CPU's parts over; returns how many there were, so that the caller can let a CPU alone on which
    /// nothing changes (Linux: `refresh_cpu_vm_stats`). Any context; a look at each counter of each zone and node.
    pub fn refresh_cpu_vm_stats(&self) -> u32 {
        let irq = IrqGuard::new();
        let zones: u32 = self.populated_zones().map(|zone| zone.counters().fold_here(&irq)).sum();
        let nodes: u32 = self.iter().map(|node| node.counters().fold_here(&irq)).sum();
        zones + nodes
    }

    /// Carries this CPU's parts over before it goes idle, if it has any: so that nobody needs to wake it for them (Linux:
    /// `quiet_vmstat`). As [`refresh_cpu_vm_stats`](Self::refresh_cpu_vm_stats).
    pub fn quiet_vmstat(&self) {
        let irq = IrqGuard::new();
        if self.need_update(arch::cpu_id()) {
            self.refresh_cpu_vm_stats();
        }
        drop(irq);
    }

    /// Whether a CPU has parts to carry over (Linux: `need_update`). Any context; that CPU may be changing them.
    pub fn need_update(&self, cpu: CpuId) -> bool {
        self.populated_zones().map(Zone::counters).any(|counters| counters.is_pending(cpu))
            || self.iter().map(Node::counters).any(|counters| counters.is_pending(cpu))
    }

    /// Carries the parts over of a CPU that does not run any more (Linux: `cpu_vm_stats_fold`). What it would count
    /// meanwhile may be lost.
    pub fn cpu_vm_stats_fold(&self, cpu: CpuId) {
        self.populated_zones().for_each(|zone| _ = zone.counters().fold_dead(cpu));
        self.iter().for_each(|node| _ = node.counters().fold_dead(cpu));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::arch::run_as_cpu;
    use crate::counters::{NodeStat, ZoneStat};
    use crate::testing::TestMachine;

    #[test]
    fn what_cpus_have_counted_is_carried_over_by_them_or_for_them() {
        let m = TestMachine::with(6 << 10, 2, 2);
        let nodes = m.pages.nodes();
        let (zone, node) = (nodes.populated_zones().next().unwrap(), nodes.iter().last().unwrap());
        zone.counters().set_threshold(20);
        node.counters().set_threshold(20);
        let before = [zone.stat(ZoneStat::Mlock), node.counters().get(NodeStat::Dirtied)];
        for cpu in [0, 1] {
            run_as_cpu(CpuId(cpu), || {
                zone.add_stat(ZoneStat::Mlock, 3);
                node.counters().inc(NodeStat::Dirtied);
                assert!(nodes.need_update(CpuId(cpu)));
            });
        }
        let counts = || [zone.stat(ZoneStat::Mlock), node.counters().get(NodeStat::Dirtied)];
        assert_eq!(counts(), before, "all is in the CPUs' parts");
        assert_eq!(nodes.refresh_cpu_vm_stats(), 2);
        assert_eq!((nodes.refresh_cpu_vm_stats(), nodes.need_update(CpuId(0))), (0, false));
        assert_eq!(counts(), [before[0] + 3, before[1] + 1]);
        nodes.cpu_vm_stats_fold(CpuId(1));
        assert_eq!(counts(), [before[0] + 6, before[1] + 2]);
        zone.add_stat(ZoneStat::Mlock, -6);
        nodes.quiet_vmstat();
        assert_eq!((zone.stat(ZoneStat::Mlock), nodes.need_update(CpuId(0))), (before[0], false));
    }

    #[test]
    fn a_nodes_threshold_is_the_largest_of_its_zones() {
        let m = TestMachine::with(6 << 10, 2, 2);
        let cpus = super::super::Cpus { online: 2, of_node: &|_| 1 };
        m.pages.nodes().set_stat_thresholds(cpus);
        for node in m.pages.nodes().iter() {
            let largest = node.populated_zones().map(Zone::stat_threshold).max().unwrap();
            assert_eq!(node.counters().threshold(), largest);
            assert!(largest > 2, "{largest}");
        }
    }
}
