//! Definition blocks: whatever they say of devices, the resource tree that is made of it is valid, and the same each time.
//!
//! Input: how many bytes of the rest are the first block, in 256ths; then both blocks.

use mm::PhysRange;
use mm::acpi::DeviceId;
use mm::acpi::namespace::{Namespace, Object};
use mm::acpi::resources::Resource;
use mm::e820;
use mm::resource::{Claim, Claims, Slot, Tree, Window, Windows};

use crate::input::Input;

pub(super) fn run(bytes: &[u8]) {
    let mut input = Input::new(bytes);
    let cut = usize::from(input.u8()) * input.rest().len() / 256;
    let blocks = [input.bytes(cut), input.rest()];
    let mut objects = vec![Object::EMPTY; Namespace::slots(blocks.into_iter())];
    let namespace = Namespace::new(&mut objects, blocks.into_iter());
    for device in namespace.devices() {
        let _ = format!("{} {:?}", device.path(), device.id());
        assert!(!(device.computes_resources() && device.resources().next().is_some()));
        for resource in device.resources() {
            assert!(!matches!(resource, Resource::Memory { range, .. } if range.is_empty()));
        }
    }
    let claims = Claims { namespace, madt: None, hpet: None, mcfg: None, local_apic: None };
    tree_of(&claims);
}

/// What the kernel makes of claims at boot.
fn tree_of(claims: &Claims<'_, '_>) {
    let mut no_entries = [];
    let map = e820::Map::new(&mut no_entries);
    claims.report(&map);
    let mut found: Vec<Claim> = Vec::new();
    claims.each(&map, &mut |claim| found.push(claim));
    let mut again = 0;
    claims.each(&map, &mut |claim| {
        assert_eq!(found.get(again), Some(&claim));
        again += 1;
    });
    assert_eq!(again, found.len());
    let all = PhysRange::new(0, 1 << 40).expect("40 bits");
    let mut slots = vec![Slot::EMPTY; found.len() + 1];
    let mut tree = Tree::new(&mut slots, all).expect("a slot");
    let mut windows = vec![Window::EMPTY; found.len()];
    let mut windows = Windows::new(&mut windows);
    tree.add_windows(&mut found, &mut windows).expect("a slot for each claim");
    tree.add_devices(&found).expect("a slot for each claim");
    tree.validate();
    for item in tree.iter() {
        let _ = format!("{} {}", item.range, item.name);
    }
    for root in claims.pci_roots() {
        assert!(root.is(DeviceId::PCI_ROOT) || root.is(DeviceId::PCIE_ROOT));
    }
}
