// SPDX-License-Identifier: GPL-2.0

//! A device that is bound to the driver.

use kernel::{
    new_condvar,
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        ArcBorrow,
        CondVar,
        CondVarTimeoutResult,
        Mutex, //
    },
    time::msecs_to_jiffies, //
};
use vfio_kernel::{
    eventfd::EventFd,
    iommu,
    kvm::Kvm,
    mapping::{
        Mapping,
        PseudoFs, //
    },
    params::{
        self,
        PerDevice, //
    },
    pci::{
        Driver,
        PciDevice, //
    },
    sched,
};

use super::{
    bar_dma::BarDma,
    denylist,
    name,
    sriov::{
        Function,
        PhysFns, //
    },
    Open, //
};
use crate::iommu_group::{
    Group,
    Registry, //
};

/// The address spaces of all devices' files.
static FS: PseudoFs<crate::VfioRs> = PseudoFs::new(c"vfio");

/// How long a user may take to answer a request for the device before it is repeated.
const REQUEST_MS: u32 = 10_000;

/// See the module's documentation.
#[pin_data]
pub(crate) struct Device {
    pci: PciDevice,
    shared: Arc<Shared>,
    /// Whether it has, or is, a virtual function.
    function: Function,
    group: Arc<Group>,
    mapping: Mapping,
    /// The parameters as they were when the device was bound.
    #[allow(dead_code)] // Until each has a reader.
    pub(super) params: PerDevice,
    bar_dma: Arc<BarDma>,
    #[pin]
    users: Mutex<Users>,
    /// Notified when nobody uses the device any more.
    #[pin]
    unused: CondVar,
    /// What the user wants to be told by; kept while the device is open.
    #[pin]
    pub(super) signals: Mutex<Signals>,
}

struct Users {
    /// Open descriptors, and opens under way.
    count: usize,
    /// Descriptors that are open.
    opened: usize,
    /// Being unbound: no more opens.
    removed: bool,
    open: Option<Arc<Open>>,
    /// What the group belonged to when the device was opened first; kept for as long as it is open.
    kvm: Option<Kvm>,
}

/// What all devices share.
pub(crate) struct Shared {
    registry: Arc<Registry>,
    physfns: Arc<PhysFns>,
}

impl Shared {
    /// For a driver without devices.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is a class `vfio`; `ENOMEM`.
    pub(crate) fn new(physfns: Arc<PhysFns>) -> Result<Arc<Self>> {
        let registry = Arc::pin_init(Registry::new()?, GFP_KERNEL)?;
        Ok(Arc::new(Self { registry, physfns }, GFP_KERNEL)?)
    }
}

/// Eventfds for what is no interrupt of the device.
#[derive(Default)]
pub(super) struct Signals {
    /// The device reported an error.
    pub(super) err: Option<EventFd>,
    /// The device is wanted back.
    pub(super) req: Option<EventFd>,
}

impl Driver for Device {
    type Shared = Arc<Shared>;

    fn probe(pci: PciDevice, shared: &Arc<Shared>) -> Result<Arc<Self>> {
        denylist::check(&pci)?;
        if !pci.is_endpoint() {
            return Err(EINVAL);
        }
        if pci.num_vf() != 0 {
            dev_warn!(pci.device(), "Cannot bind to PF with SR-IOV enabled\n");
            return Err(EBUSY);
        }
        let iommu_group = iommu::Group::of(pci.device()).ok_or(EINVAL)?;
        if !pci.cache_coherent() {
            return Err(EINVAL);
        }
        let function = Function::of(&pci, &shared.physfns)?;
        let mapping = FS.new_mapping()?;
        let bar_dma = BarDma::new()?;
        let group = shared.registry.join(iommu_group)?;
        let joined = group.clone();
        let users = Users {
            count: 0,
            opened: 0,
            removed: false,
            open: None,
            kvm: None,
        };
        let device = pin_init!(Self {
            pci,
            shared: shared.clone(),
            function,
            group: joined,
            mapping,
            params: PerDevice::now(),
            bar_dma,
            users <- new_mutex!(users, "Device::users"),
            unused <- new_condvar!("Device::unused"),
            signals <- new_mutex!(Signals::default(), "Device::signals"),
        });
        Arc::pin_init(device, GFP_KERNEL)
            .and_then(|device| {
                group.add_device(device.clone())?;
                Ok(device)
            })
            .inspect_err(|_| shared.registry.leave(&group))
    }

    fn remove(this: ArcBorrow<'_, Self>) {
        this.disable_sriov();
        this.group.remove_device(&this);
        this.wait_unused();
        this.shared.registry.leave(&this.group);
    }

    fn sriov_configure(this: ArcBorrow<'_, Self>, count: u16) -> Result<u16> {
        // ERRNO: ENOENT, as vfio_pci_sriov_configure().
        if !params::enable_sriov() {
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

    /// Whether it has, or is, a virtual function.
    pub(super) fn function(&self) -> &Function {
        &self.function
    }

    /// The physical functions of the driver whose virtual functions are on.
    pub(super) fn physfns(&self) -> &PhysFns {
        &self.shared.physfns
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

    /// What is open, if anything.
    pub(super) fn current(&self) -> Option<Arc<Open>> {
        self.users.lock().open.clone()
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
        users.count = users.count.saturating_add(1);
        Ok(())
    }

    /// Undoes [`get`](Self::get).
    pub(crate) fn put(&self) {
        let mut users = self.users.lock();
        users.count = users.count.saturating_sub(1);
        if users.count == 0 {
            self.unused.notify_all();
        }
    }

    /// Opens the device: switches it on for the first user, shares it with further ones.
    pub(crate) fn open(self: &Arc<Self>) -> Result<Arc<Open>> {
        let mut users = self.users.lock();
        let open = match &users.open {
            Some(open) => open.clone(),
            None => {
                let kvm = self.group.kvm().get();
                let open = Open::enable(self)?;
                self.function.opened();
                users.kvm = kvm;
                open
            }
        };
        users.open = Some(open.clone());
        users.opened = users.opened.saturating_add(1);
        Ok(open)
    }

    /// Undoes [`open`](Self::open): switches the device off after the last user, and returns what
    /// the caller must let go of when it holds no locks.
    pub(crate) fn close(&self) -> Option<Kvm> {
        let mut users = self.users.lock();
        users.opened = users.opened.saturating_sub(1);
        if users.opened != 0 {
            return None;
        }
        if let Some(open) = users.open.take() {
            self.function.closed();
            open.disable();
        }
        *self.signals.lock() = Signals::default();
        users.kvm.take()
    }

    /// Waits until the device is not in use, asking its users to close it.
    fn wait_unused(&self) {
        let mut users = self.users.lock();
        users.removed = true;
        let mut count = 0u32;
        let mut interrupted = false;
        while users.count != 0 {
            drop(users);
            self.request(count);
            count = count.wrapping_add(1);
            users = self.users.lock();
            if users.count == 0 {
                break;
            }
            if interrupted {
                self.unused.wait(&mut users);
                continue;
            }
            let waited = self
                .unused
                .wait_interruptible_timeout(&mut users, msecs_to_jiffies(REQUEST_MS));
            if let CondVarTimeoutResult::Signal { .. } = waited {
                dev_warn!(
                    self.pci.device(),
                    "Device is currently in use, task {} blocked until device is released\n",
                    sched::current_pid()
                );
                interrupted = true;
            }
        }
    }

    /// Tells the user that the device is wanted back.
    fn request(&self, count: u32) {
        match &self.signals.lock().req {
            Some(eventfd) => {
                if count % 10 == 0 {
                    dev_notice!(
                        self.pci.device(),
                        "Relaying device request to user (#{count})\n"
                    );
                }
                eventfd.signal();
            }
            None if count == 0 => dev_warn!(
                self.pci.device(),
                "No device request channel registered, blocked until released by user\n"
            ),
            None => {}
        }
    }
}
