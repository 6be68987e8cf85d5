// SPDX-License-Identifier: GPL-2.0

//! A device that is bound to the driver.

use kernel::{
    device, new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    count::Count,
    kvm::Kvm,
    log,
    mapping::Mapping,
    module_ref::ModuleRef,
    params::PerDevice,
    pci::{
        Awake,
        BoundPci,
        DriverOwner, //
    },
    worker::Worker,
};

use super::{
    dev_set::DevSet,
    irq::Signals,
    name,
    reset_gate::Resets,
    shared::Shared,
    sriov::{
        Function,
        OpenVf,
        PhysFns, //
    },
    Open,
};
use crate::{
    backend::p2p::BarDma,
    core::{
        self,
        Closed,
        DeviceUsers,
        Via, //
    },
    iommu_group::Group,
    uapi::MAPPINGS, //
};

/// See the module's documentation.
#[pin_data]
pub(crate) struct Device {
    pci: BoundPci,
    /// The module that the driver is registered for.
    owner: Arc<DriverOwner>,
    shared: Arc<Shared>,
    /// Whether it has, or is, a virtual function.
    function: Function,
    group: Arc<Group>,
    /// The devices that can only be reset together with it.
    set: Arc<DevSet>,
    /// Whether it forgets its configuration in D3hot.
    forgets_in_d3: bool,
    mapping: Mapping,
    /// The parameters as they were when the device was bound.
    pub(super) params: PerDevice,
    bar_dma: Arc<BarDma>,
    #[pin]
    resets: Resets,
    users: Arc<DeviceUsers>,
    #[pin]
    opens: Mutex<Opens>,
    /// What the user wants to be told by; kept while the device is open.
    #[pin]
    pub(super) signals: Mutex<Signals>,
}

/// Who has it open, and what it keeps meanwhile.
#[derive(Default)]
struct Opens {
    /// Descriptors that are open. Changes under the set's lock only.
    count: Count,
    /// There while a descriptor is open. Changes under the set's lock only.
    open: Option<Arc<Open>>,
    /// What the group belonged to when the device was opened first; kept for as long as it is open.
    kvm: Option<Kvm>,
    /// Was closed without a reset.
    needs_reset: bool,
    /// Keeps the device awake while it is open; unless it never sleeps.
    awake: Option<Awake>,
    /// Keeps the driver's module from being removed while the device is open.
    module: Option<ModuleRef>,
    /// Of a virtual function, from its first open to its last close.
    vf: Option<OpenVf>,
}

impl core::VfioDevice for Device {
    fn dev(&self) -> &device::Device {
        self.pci.device()
    }

    fn users(&self) -> &Arc<DeviceUsers> {
        &self.users
    }

    fn matches(&self, name: &[u8]) -> Result<bool> {
        let address = self.pci.name().to_bytes();
        let Some(options) = name::parse(name, address)? else {
            return Ok(false);
        };
        self.function.admit(&self.pci, options.vf_token)?;
        Ok(true)
    }

    fn admits(&self, token: Option<[u8; 16]>) -> Result {
        self.function.admit(&self.pci, token.map(name::Uuid))
    }

    fn enforces_coherency(&self) -> bool {
        self.pci.enforces_cache_coherency()
    }

    fn cut_off(&self) {
        let Some(open) = self.current() else {
            return;
        };
        let Some(iommufd) = open.access.iommufd() else {
            return;
        };
        iommufd.cut_off();
        open.stop_dma();
        // That waits for whoever maps something in the context. Without memory it is left to the
        // close: the device does no DMA.
        let iommufd = iommufd.clone();
        let _ = self.shared.queue.spawn(move || iommufd.detach_all());
    }

    fn request(&self, count: u32) {
        self.signal_request(count);
    }
}

impl Device {
    /// The PCI device.
    pub(crate) fn pci(&self) -> &BoundPci {
        &self.pci
    }

    /// The group.
    pub(crate) fn group(&self) -> &Arc<Group> {
        &self.group
    }

    /// The address space of the device's files.
    pub(crate) fn mapping(&self) -> &Mapping {
        &self.mapping
    }

    /// Its BARs in I/O address spaces.
    pub(super) fn bar_dma(&self) -> &Arc<BarDma> {
        &self.bar_dma
    }

    /// Who resets it.
    pub(super) fn resets(&self) -> &Resets {
        &self.resets
    }

    /// Whether it has, or is, a virtual function.
    pub(super) fn function(&self) -> &Function {
        &self.function
    }

    /// The physical functions of the driver whose virtual functions are on.
    pub(super) fn physfns(&self) -> &PhysFns {
        &self.shared.physfns
    }

    /// Somebody to work for the device while it is open.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn new_worker(&self) -> Result<Arc<Worker>> {
        Worker::new(&self.shared.queue)
    }

    /// A device that is being bound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`; what the PCI core says.
    pub(super) fn new(
        pci: BoundPci,
        params: PerDevice,
        owner: &Arc<DriverOwner>,
        shared: &Arc<Shared>,
        group: &Arc<Group>,
        set: &Arc<DevSet>,
    ) -> Result<Arc<Self>> {
        pci.init_p2pdma()?;
        let function = Function::of(&pci, &shared.physfns)?;
        let bar_dma = BarDma::new(pci.name())?;
        let device = pin_init!(Self {
            forgets_in_d3: pci.forgets_in_d3(),
            pci,
            owner: owner.clone(),
            shared: shared.clone(),
            function,
            group: group.clone(),
            set: set.clone(),
            mapping: MAPPINGS.new_mapping()?,
            params,
            bar_dma,
            resets <- Resets::new()?,
            users: DeviceUsers::new()?,
            opens <- new_mutex!(Opens::default(), "Device::opens"),
            signals <- new_mutex!(Signals::default(), "Device::signals"),
        }? Error);
        Arc::pin_init(device, GFP_KERNEL)
    }

    /// Opens the device, which does DMA by what `via` says: switches it on for the first user, who
    /// may be a virtual machine and then is taken out of `kvm`; shares it with further ones.
    ///
    /// # Errors
    ///
    /// `ENODEV` if the driver's module is going, what `via` says, `EAGAIN` if the device is locked
    /// or just being reset; what switching it on says.
    pub(crate) fn open(self: &Arc<Self>, via: &Via, kvm: &mut Option<Kvm>) -> Result<Arc<Open>> {
        // Without the lock.
        let mut unused = Closed::NOT_YET;
        let set = self.set.members.lock();
        let claim;
        let open = match self.current() {
            Some(open) => open,
            None => {
                // ERRNO: ENODEV, as vfio_df_device_first_open().
                let module = self.owner.hold()?;
                let access = unused.access.insert(via.access(self.pci.clone())?);
                claim = self.resets.try_claim()?;
                let awake = match self.sleeps() {
                    true => Some(self.pci.awake()?),
                    false => None,
                };
                let open = Open::enable(self, access)?;
                if let Err(err) = open.specific() {
                    if log::may_log(log::Subject::Opens) {
                        dev_warn!(self.pci.device(), "Failed to setup Intel IGD regions\n");
                    }
                    self.switch_off(&open);
                    drop(claim);
                    set.reset_unused();
                    return Err(err);
                }
                let vf = self.function.open_vf();
                let mut opens = self.opens.lock();
                opens.kvm = kvm.take();
                opens.awake = awake;
                opens.module = Some(module);
                opens.vf = vf;
                unused.access = None;
                open
            }
        };
        let mut opens = self.opens.lock();
        opens.open = Some(open.clone());
        opens.count.inc();
        Ok(open)
    }

    /// Undoes [`open`](Self::open): switches the device off after the last user, and returns what
    /// the caller must let go of when it holds no locks.
    pub(crate) fn close(&self) -> Closed {
        let set = self.set.members.lock();
        let mut opens = self.opens.lock();
        if !opens.count.dec() {
            return Closed::NOT_YET;
        }
        let (open, vf) = (opens.open.clone(), opens.vf.take());
        drop(opens);
        drop(vf);
        if let Some(open) = &open {
            let _claim = self.resets.claim();
            self.switch_off(open);
        }
        set.reset_unused();
        let awake = self.opens.lock().awake.take();
        drop(awake);
        *self.signals.lock() = Signals::default();
        let mut opens = self.opens.lock();
        opens.module = None;
        Closed::new(open.map(|open| open.access.clone()), opens.kvm.take())
    }

    fn switch_off(&self, open: &Open) {
        let was_reset = open.disable();
        let mut opens = self.opens.lock();
        opens.open = None;
        opens.needs_reset = !was_reset;
    }

    /// Whether the device may sleep while it is not open.
    pub(super) fn sleeps(&self) -> bool {
        !self.params.disable_idle_d3
    }

    /// What is open, if anything.
    pub(super) fn current(&self) -> Option<Arc<Open>> {
        self.opens.lock().open.clone()
    }

    /// The devices that can only be reset together with it.
    pub(super) fn set(&self) -> &DevSet {
        &self.set
    }

    /// Whether it was closed without a reset.
    pub(super) fn needs_reset(&self) -> bool {
        self.opens.lock().needs_reset
    }

    /// See [`needs_reset`](Self::needs_reset).
    pub(super) fn set_needs_reset(&self, needs_reset: bool) {
        self.opens.lock().needs_reset = needs_reset;
    }

    /// Whether it forgets its configuration in D3hot.
    pub(super) fn forgets_in_d3(&self) -> bool {
        self.forgets_in_d3
    }
}
