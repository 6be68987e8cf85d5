// SPDX-License-Identifier: GPL-2.0

//! SR-IOV: physical functions whose virtual functions are given to users as well.
//!
//! Whoever has the physical function can disturb, and may read, what its virtual functions do. So
//! when both are in users' hands the users prove that they know of each other by a *token*, which
//! the user of the physical function sets and all others must name.
//!
//! Virtual functions come and go with the physical function's driver: made through it only, they
//! get the same driver, and go before it is unbound.
//!
//! Locks: `PhysFn::state` and `PhysFns::active`, both innermost; see Documentation/locking.rst.
//! Stands for the SR-IOV parts of drivers/vfio/pci/vfio_pci_core.c.

use kernel::{
    new_mutex,
    prelude::*,
    sync::{
        Arc,
        Mutex, //
    },
};
use vfio_kernel::{
    count::Count,
    log,
    pci::{
        Awake,
        BusDriver,
        PciDevice,
        Watcher, //
    },
    random,
};

use super::{
    name::Uuid,
    Device,
    Open, //
};

/// The name of the driver.
pub(crate) const DRIVER: &CStr = c"vfio-pci";

/// What a device is in terms of SR-IOV.
pub(super) enum Function {
    /// Neither of the two.
    Plain,
    /// One that can have virtual functions.
    Physical(Arc<PhysFn>),
    /// A virtual function; of a physical function that is bound to the driver, or of another.
    Virtual(Option<Arc<PhysFn>>),
}

/// A physical function that is bound to the driver.
#[pin_data]
pub(crate) struct PhysFn {
    pci: PciDevice,
    #[pin]
    state: Mutex<PhysFnState>,
}

struct PhysFnState {
    token: Uuid,
    /// Virtual functions that are open.
    users: Count,
    /// Virtual functions are switched on, or just being; then it keeps the device awake.
    active: Option<Awake>,
}

impl PhysFn {
    fn new(pci: &PciDevice) -> Result<Arc<Self>> {
        let state = PhysFnState {
            // Nobody's, until the user sets one.
            token: Uuid(random::bytes()),
            users: Count::NONE,
            active: None,
        };
        Arc::pin_init(
            pin_init!(Self {
                pci: pci.clone(),
                state <- new_mutex!(state, "PhysFn::state"),
            }),
            GFP_KERNEL,
        )
    }

    /// Sets the token.
    pub(super) fn set_token(&self, token: Uuid) {
        self.state.lock().token = token;
    }

    /// Notes that virtual functions are on, or off.
    fn set_active(&self, active: Option<Awake>) {
        let old = core::mem::replace(&mut self.state.lock().active, active);
        drop(old);
    }

    /// Whether who opens the physical function may.
    fn admit(&self, token: Option<Uuid>) -> Result<(), &'static CStr> {
        let mut state = self.state.lock();
        match token {
            // Nobody is there to be betrayed.
            None if state.users.is_none() => {}
            Some(token) if state.users.is_none() => state.token = token,
            other => state.check(other)?,
        }
        Ok(())
    }
}

impl PhysFnState {
    fn check(&self, token: Option<Uuid>) -> Result<(), &'static CStr> {
        match token {
            None => Err(c"VF token required to access device"),
            Some(token) if token != self.token => Err(c"Incorrect VF token provided for device"),
            Some(_) => Ok(()),
        }
    }
}

impl Function {
    /// For a device that is being bound.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(super) fn of(pci: &PciDevice, all: &PhysFns) -> Result<Self> {
        Ok(match pci.physfn() {
            Some(physfn) => Self::Virtual(all.find(&physfn)),
            None if pci.is_physfn() => Self::Physical(PhysFn::new(pci)?),
            None => Self::Plain,
        })
    }

    /// The physical function's part, if it is one.
    pub(super) fn physical(&self) -> Option<&Arc<PhysFn>> {
        match self {
            Self::Physical(pf) => Some(pf),
            _ => None,
        }
    }

    /// Whether virtual functions of the device are on: it must not sleep then.
    pub(super) fn holds_vfs(&self) -> bool {
        self.physical()
            .is_some_and(|pf| pf.state.lock().active.is_some())
    }

    /// Whether who opens the device `pci` with this token, or none, may.
    ///
    /// # Errors
    ///
    /// `EACCES` if a token is missing or wrong, `EINVAL` if one is given where none is known.
    pub(super) fn admit(&self, pci: &PciDevice, token: Option<Uuid>) -> Result {
        let (err, why) = match (self, token) {
            (Self::Virtual(Some(pf)), token) => match pf.state.lock().check(token) {
                Ok(()) => return Ok(()),
                Err(why) => (EACCES, why),
            },
            (Self::Physical(pf), token) => match pf.admit(token) {
                Ok(()) => return Ok(()),
                Err(why) => (EACCES, why),
            },
            (_, None) => return Ok(()),
            (Self::Virtual(None), Some(_)) => (
                EINVAL,
                c"VF token incorrectly provided, PF not bound to vfio-pci",
            ),
            (Self::Plain, Some(_)) => (EINVAL, c"VF token incorrectly provided, not a PF or VF"),
        };
        if log::may_log(log::Subject::Tokens) {
            dev_info!(pci.device(), "{why}\n");
        }
        Err(err)
    }

    /// Counts an open virtual function, if it is one: as long as the result lives its physical
    /// function wants the token.
    pub(super) fn open_vf(&self) -> Option<OpenVf> {
        let Self::Virtual(Some(pf)) = self else {
            return None;
        };
        pf.state.lock().users.inc();
        Some(OpenVf(pf.clone()))
    }
}

/// A virtual function that is open.
pub(super) struct OpenVf(Arc<PhysFn>);

impl Drop for OpenVf {
    fn drop(&mut self) {
        self.0.state.lock().users.dec();
    }
}

/// The physical functions whose virtual functions are on.
#[pin_data]
pub(crate) struct PhysFns {
    #[pin]
    active: Mutex<KVec<Arc<PhysFn>>>,
}

impl PhysFns {
    /// None yet.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Arc::pin_init(
            pin_init!(Self { active <- new_mutex!(KVec::new(), "PhysFns::active") }),
            GFP_KERNEL,
        )
    }

    /// Lets the virtual functions of `pf`, which are about to appear, find it.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they could before, `ENOMEM`.
    pub(super) fn enter(&self, pf: &Arc<PhysFn>) -> Result {
        let mut active = self.active.lock();
        if active.iter().any(|other| Arc::ptr_eq(other, pf)) {
            return Err(EINVAL);
        }
        active.push(pf.clone(), GFP_KERNEL)?;
        Ok(())
    }

    /// Undoes [`enter`](Self::enter), if it was done.
    pub(super) fn leave(&self, pf: &Arc<PhysFn>) {
        self.active.lock().retain(|other| !Arc::ptr_eq(other, pf));
    }

    fn find(&self, pci: &PciDevice) -> Option<Arc<PhysFn>> {
        let active = self.active.lock();
        active.iter().find(|pf| pf.pci.is(pci)).cloned()
    }

    /// The physical function of `pci` if that is a virtual one of ours.
    fn owner(&self, pci: &PciDevice) -> Option<Arc<PhysFn>> {
        self.find(&pci.physfn()?)
    }
}

impl Watcher for PhysFns {
    fn added(&self, pci: &PciDevice) {
        let Some(pf) = self.owner(pci) else {
            return;
        };
        // LOG: when an administrator makes virtual functions.
        dev_info!(
            pf.pci.device(),
            "Captured SR-IOV VF {} driver_override\n",
            pci.name()
        );
        if pci.set_driver_override(DRIVER).is_err() {
            // LOG: as above.
            dev_warn!(pf.pci.device(), "VF {} stays without\n", pci.name());
        }
    }

    fn bound(&self, pci: &PciDevice, driver: BusDriver<'_>) {
        let Some(pf) = self.owner(pci) else {
            return;
        };
        if driver.name.to_bytes() != DRIVER.to_bytes() {
            // LOG: when an administrator binds it.
            dev_warn!(
                pf.pci.device(),
                "VF {} bound to driver {} while PF bound to driver {}\n",
                pci.name(),
                driver.name,
                DRIVER
            );
        }
    }
}

impl Device {
    /// Makes `count` virtual functions, which the driver gets as well. Called with the device's
    /// lock held; there are none yet.
    ///
    /// # Errors
    ///
    /// `EINVAL` if it is no physical function, `ENOMEM`, or what the PCI core says.
    pub(super) fn enable_sriov(&self, count: u16) -> Result {
        let pf = self.function().physical().ok_or(EINVAL)?;
        self.physfns().enter(pf)?;
        match self.pci().awake() {
            Ok(awake) => self.wake_for_vfs(pf, awake),
            Err(err) => {
                self.physfns().leave(pf);
                return Err(err);
            }
        }
        self.pci().enable_sriov(count).inspect_err(|_| {
            pf.set_active(None);
            self.physfns().leave(pf);
        })
    }

    /// Undoes [`enable_sriov`](Self::enable_sriov), and waits until no virtual function is in use.
    /// Called with the device's lock held.
    pub(super) fn disable_sriov(&self) {
        let Some(pf) = self.function().physical() else {
            return;
        };
        if self.pci().num_vf() != 0 {
            self.pci().disable_sriov();
        }
        pf.set_active(None);
        self.physfns().leave(pf);
    }

    /// A physical function must not sleep while its virtual ones are awake.
    fn wake_for_vfs(&self, pf: &PhysFn, awake: Awake) {
        // First: from here on no user, also of an open that is under way, puts it to sleep.
        pf.set_active(Some(awake));
        match self.current() {
            Some(open) => {
                let _ = open.set_power_state(&mut open.write_memory(), 0);
            }
            None => {
                let _ = self.pci().set_power_state(0);
            }
        }
    }
}

impl Open {
    /// Whether the device has a token that the user may set.
    pub(crate) fn has_vf_token(&self) -> bool {
        self.device.function().physical().is_some()
    }

    /// Sets the token that whoever opens a virtual function of the device must name.
    pub(crate) fn set_vf_token(&self, token: Uuid) {
        if let Some(pf) = self.device.function().physical() {
            pf.set_token(token);
        }
    }
}
