// SPDX-License-Identifier: GPL-2.0

//! A device that is bound to the driver.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        Mutex, //
    },
    time::msecs_to_jiffies, //
};
use vfio_kernel::{
    completion::{
        Completion,
        Waited, //
    },
    count::Count,
    iommu,
    kvm::Kvm,
    log,
    mapping::Mapping,
    module_ref::ModuleRef,
    params::{
        self,
        PerDevice, //
    },
    pci::{
        Awake,
        Driver,
        Owner,
        PciDevice, //
    },
    sched,
    worker::Worker,
};

use super::{
    bar_dma::BarDma,
    dev_set::DevSet,
    irq::Signals,
    name, refusal,
    reset_gate::Resets,
    shared::Shared,
    sriov::{
        Function,
        PhysFns, //
    },
    Open,
};
use crate::{backend::Backend, iommu_group::Group, uapi::MAPPINGS};

/// How long a user may take to answer a request for the device before it is repeated.
const REQUEST_MS: u32 = 10_000;

/// See the module's documentation.
#[pin_data]
pub(crate) struct Device {
    pci: PciDevice,
    /// The module that the driver is registered for.
    owner: Arc<Owner>,
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
    #[pin]
    users: Mutex<Users>,
    /// Nobody uses the device any more, and nobody will.
    #[pin]
    unused: Completion,
    /// What the user wants to be told by; kept while the device is open.
    #[pin]
    pub(super) signals: Mutex<Signals>,
}

#[derive(Default)]
struct Users {
    /// Open descriptors, and opens under way.
    count: Count,
    /// Descriptors that are open. Changes under the set's lock only.
    opened: Count,
    /// Being unbound: no more opens.
    removed: bool,
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
}

impl Driver for Device {
    type Shared = Arc<Shared>;

    fn probe(
        pci: PciDevice,
        params: PerDevice,
        owner: &Arc<Owner>,
        shared: &Arc<Shared>,
    ) -> Result<Arc<Self>> {
        let iommu_group = iommu::Group::of(pci.device());
        refusal::check(&pci, iommu_group.as_deref())?;
        pci.init_p2pdma()?;
        let function = Function::of(&pci, &shared.physfns)?;
        let mapping = MAPPINGS.new_mapping()?;
        let bar_dma = BarDma::new()?;
        let resets = Resets::new()?;
        let set = shared.sets.join(&pci)?;
        let group = shared
            .join_group(&pci, iommu_group)
            .inspect_err(|_| shared.sets.leave(&set))?;
        let (its_group, its_set) = (group.clone(), set.clone());
        let device = pin_init!(Self {
            forgets_in_d3: pci.forgets_in_d3(),
            pci,
            owner: owner.clone(),
            shared: shared.clone(),
            function,
            group: its_group,
            set: its_set,
            mapping,
            params,
            bar_dma,
            resets <- resets,
            users <- new_mutex!(Users::default(), "Device::users"),
            unused <- Completion::new(),
            signals <- new_mutex!(Signals::default(), "Device::signals"),
        });
        Arc::pin_init(device, GFP_KERNEL)
            .and_then(|device| {
                // The PCI core takes only this way out of the state in which it leaves a device.
                let _ = device.pci.set_power_state(0);
                set.add(device.clone())?;
                group
                    .add_device(device.clone())
                    .inspect_err(|_| set.remove(&device))?;
                Ok(device)
            })
            .inspect_err(|_| {
                shared.registry.leave(&group);
                shared.sets.leave(&set);
            })
    }

    fn remove(this: ArcBorrow<'_, Self>) {
        this.disable_sriov();
        this.group.remove_device(&this);
        this.wait_unused();
        this.set.remove(&this);
        this.shared.sets.leave(&this.set);
        this.shared.registry.leave(&this.group);
    }

    fn sleeps(&self) -> bool {
        !self.params.disable_idle_d3
    }

    fn suspend(this: ArcBorrow<'_, Self>) {
        if let Some(open) = this.current() {
            open.suspend();
        }
    }

    fn resume(this: ArcBorrow<'_, Self>) {
        if let Some(open) = this.current() {
            open.resume();
        }
    }

    fn sriov_configure(this: ArcBorrow<'_, Self>, count: u16) -> Result<u16> {
        // ERRNO: ENOENT, as vfio_pci_sriov_configure().
        if !params::enable_sriov() {
            // LOG: when an administrator asks for them.
            dev_warn!(
                this.pci.device(),
                "No virtual functions: enable_sriov of vfio-pci is off\n"
            );
            return Err(ENOENT);
        }
        match count {
            0 => this.disable_sriov(),
            count => this.enable_sriov(count)?,
        }
        Ok(count)
    }

    fn error_detected(this: ArcBorrow<'_, Self>) {
        if let Some(eventfd) = &this.signals.lock().err {
            eventfd.signal();
        }
    }

    fn reset_prepare(this: ArcBorrow<'_, Self>) {
        this.begin_reset();
    }

    fn reset_done(this: ArcBorrow<'_, Self>) {
        this.end_reset();
    }
}

impl Device {
    /// The PCI device.
    pub(crate) fn pci(&self) -> &PciDevice {
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

    /// Whether `VFIO_GROUP_GET_DEVICE_FD` means this device by `name`, and whoever says so may
    /// open it.
    ///
    /// # Errors
    ///
    /// `EINVAL` for options behind the name that are malformed or not wanted, `EACCES` if the
    /// token of the virtual functions is missing or wrong.
    pub(crate) fn matches(&self, name: &[u8]) -> Result<bool> {
        let address = self.pci.name().to_bytes();
        let Some(options) = name::parse(name, address)? else {
            return Ok(false);
        };
        self.function.admit(&self.pci, options.vf_token)?;
        Ok(true)
    }

    /// Keeps the device from being unbound.
    ///
    /// # Errors
    ///
    /// `ENODEV` if it is being unbound.
    pub(crate) fn get(&self) -> Result {
        let mut users = self.users.lock();
        if users.removed {
            return Err(ENODEV);
        }
        users.count.inc();
        Ok(())
    }

    /// Undoes [`get`](Self::get).
    pub(crate) fn put(&self) {
        let mut users = self.users.lock();
        if users.count.dec() && users.removed {
            self.unused.complete_all();
        }
    }

    /// Opens the device, whose group's container has `backend`: switches it on for the first user,
    /// who may be a virtual machine and then is taken out of `kvm`; shares it with further ones.
    pub(crate) fn open(
        self: &Arc<Self>,
        backend: &Arc<dyn Backend>,
        kvm: &mut Option<Kvm>,
    ) -> Result<Arc<Open>> {
        let set = self.set.members.lock();
        let claim;
        let open = match self.current() {
            Some(open) => open,
            None => {
                // ERRNO: ENODEV, as vfio_df_device_first_open().
                let module = self.owner.hold()?;
                claim = self.resets.try_claim()?;
                let awake = match self.sleeps() {
                    true => Some(self.pci.awake()?),
                    false => None,
                };
                let open = Open::enable(self, backend)?;
                if let Err(err) = open.specific() {
                    if log::may_log(log::Subject::Opens) {
                        dev_warn!(self.pci.device(), "Failed to setup Intel IGD regions\n");
                    }
                    self.switch_off(&open);
                    drop(claim);
                    set.reset_unused();
                    return Err(err);
                }
                self.function.opened();
                let mut users = self.users.lock();
                users.kvm = kvm.take();
                users.awake = awake;
                users.module = Some(module);
                open
            }
        };
        let mut users = self.users.lock();
        users.open = Some(open.clone());
        users.opened.inc();
        Ok(open)
    }

    /// Undoes [`open`](Self::open): switches the device off after the last user, and returns what
    /// the caller must let go of when it holds no locks.
    pub(crate) fn close(&self) -> Option<Kvm> {
        let set = self.set.members.lock();
        let mut users = self.users.lock();
        if !users.opened.dec() {
            return None;
        }
        let open = users.open.clone();
        drop(users);
        if let Some(open) = open {
            self.function.closed();
            let _claim = self.resets.claim();
            self.switch_off(&open);
        }
        set.reset_unused();
        let awake = self.users.lock().awake.take();
        drop(awake);
        *self.signals.lock() = Signals::default();
        let mut users = self.users.lock();
        users.module = None;
        users.kvm.take()
    }

    fn switch_off(&self, open: &Open) {
        let was_reset = open.disable();
        let mut users = self.users.lock();
        users.open = None;
        users.needs_reset = !was_reset;
    }

    /// What is open, if anything.
    pub(super) fn current(&self) -> Option<Arc<Open>> {
        self.users.lock().open.clone()
    }

    /// The devices that can only be reset together with it.
    pub(super) fn set(&self) -> &DevSet {
        &self.set
    }

    /// Whether it was closed without a reset.
    pub(super) fn needs_reset(&self) -> bool {
        self.users.lock().needs_reset
    }

    /// See [`needs_reset`](Self::needs_reset).
    pub(super) fn set_needs_reset(&self, needs_reset: bool) {
        self.users.lock().needs_reset = needs_reset;
    }

    /// Whether it forgets its configuration in D3hot.
    pub(super) fn forgets_in_d3(&self) -> bool {
        self.forgets_in_d3
    }

    /// Waits until the device is not in use, asking its users to close it.
    fn wait_unused(&self) {
        {
            let mut users = self.users.lock();
            users.removed = true;
            if users.count.is_none() {
                return;
            }
        }
        let timeout = msecs_to_jiffies(REQUEST_MS);
        let mut interrupted = false;
        for count in 0u32.. {
            self.request(count);
            let waited = if interrupted {
                self.unused.wait_timeout(timeout)
            } else {
                self.unused.wait_interruptible_timeout(timeout)
            };
            match waited {
                Waited::Done => return,
                Waited::TimedOut => {}
                Waited::Interrupted => {
                    // LOG: once for an administrator who unbinds it.
                    dev_warn!(
                        self.pci.device(),
                        "Device is currently in use, task {} blocked until device is released\n",
                        sched::current_pid()
                    );
                    interrupted = true;
                }
            }
        }
    }
}
