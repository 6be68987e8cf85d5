// SPDX-License-Identifier: GPL-2.0

//! Device nodes: `include/linux/miscdevice.h`, `include/linux/cdev.h`,
//! `include/linux/device/class.h`.
//!
//! A device of a class may also be without a node: then it is a name in sysfs and nothing else.
//!
//! `kernel::miscdevice` gives each device a minor of the kernel's choice, and neither a mode nor a
//! name of the node that differs from the device's, while users know minor and name of ours. For
//! character devices and classes the `kernel` crate has nothing.

use core::{
    marker::PhantomData,
    ptr::{
        addr_of_mut,
        NonNull, //
    },
};
use kernel::{
    bindings,
    container_of,
    device,
    error::{
        from_result,
        to_result, //
    },
    fmt,
    prelude::*,
    str::CString,
    sync::Arc,
    types::Opaque, //
};

use crate::fops::{
    FileOps,
    FileOpsTable,
    NodeWay, //
};
use vfio_bindings as ours;

/// The way of files of a miscellaneous device, [`MiscNode`].
pub struct Misc(());

/// The way of files of a character node, [`CharNode`].
pub struct Node(());

impl<T: FileOps<Node = ()>> FileOpsTable<T, Misc> {
    /// For a miscellaneous device, whose node carries nothing.
    pub const fn misc() -> Self {
        let ops = bindings::file_operations {
            open: Some(open_misc::<T>),
            ..Self::base()
        };
        // SAFETY: `open_misc` leaves an `Arc<T>` in whatever file.
        unsafe { Self::new(ops) }
    }
}

// SAFETY: `node()` has `open_node`.
unsafe impl NodeWay for Node {}

impl<T: FileOps> FileOpsTable<T, Node> {
    /// For a character node.
    pub const fn node() -> Self {
        let ops = bindings::file_operations {
            open: Some(open_node::<T>),
            ..Self::base()
        };
        // SAFETY: `open_node` leaves an `Arc<T>` in files of a `CharNode<T::Node>`, and for no
        // other kind of node `CharNode::register` takes the table.
        unsafe { Self::new(ops) }
    }
}

/// The operations of files of a node that carries `N`, whatever their type is.
///
/// # Invariants
///
/// They are those of a table of a type `T` with `T::Node = N`, whose `open` is for files of a
/// [`CharNode<N>`].
pub struct NodeOps<N>(&'static bindings::file_operations, PhantomData<fn() -> N>);

impl<N> Clone for NodeOps<N> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<N> Copy for NodeOps<N> {}

// SAFETY: The table is never written after it was made.
unsafe impl<N> Send for NodeOps<N> {}
// SAFETY: As above.
unsafe impl<N> Sync for NodeOps<N> {}

impl<T: FileOps, K: NodeWay> FileOpsTable<T, K> {
    /// For [`CharNode::register`].
    pub const fn node_ops(&'static self) -> NodeOps<T::Node> {
        // INVARIANT: By the contract of `NodeWay`.
        NodeOps(self.ops(), PhantomData)
    }
}

/// `open` of a miscellaneous device.
///
/// # Safety
///
/// Called by the VFS, with a file that is being opened.
unsafe extern "C" fn open_misc<T: FileOps<Node = ()>>(
    _inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: By the contract of this function.
    unsafe { opened(file, T::open(&())) }
}

/// `open` of a character node.
///
/// # Safety
///
/// Called by the VFS, with a file that is being opened through a [`CharNode`] of `T`.
unsafe extern "C" fn open_node<T: FileOps>(
    inode: *mut bindings::inode,
    file: *mut bindings::file,
) -> c_int {
    // SAFETY: By the contract of this function.
    unsafe { opened(file, T::open(node_of::<T::Node>(inode))) }
}

/// What the node that is being opened carries.
///
/// # Safety
///
/// `inode` must be that of a file that is being opened through a [`CharNode`] of `N`; the result
/// lives until the file is released.
pub(crate) unsafe fn node_of<'a, N: Send + Sync + 'static>(inode: *mut bindings::inode) -> &'a N {
    // SAFETY: By the contract of this function; `chrdev_open()` holds a reference to the node's
    // cdev, hence to the node, until the file is released.
    unsafe { CharNode::<N>::from_cdev(ours::vfio_rs_inode_cdev(inode)) }
}

/// Leaves `data` in a file.
///
/// # Safety
///
/// The file must be one that is being opened, with a table of `T`.
pub(crate) unsafe fn opened<T>(file: *mut bindings::file, data: Result<Arc<T>>) -> c_int {
    from_result(|| {
        // SAFETY: A file being opened belongs to its open function.
        unsafe { (*file).private_data = Arc::into_raw(data?).cast_mut().cast() };
        Ok(0)
    })
}

/// A registered miscellaneous device; dropping it removes the node.
///
/// # Invariants
///
/// It is registered, and its name and operations live as long as the module.
pub struct MiscNode(Pin<KBox<Opaque<bindings::miscdevice>>>);

// SAFETY: Registration and removal may happen on different threads.
unsafe impl Send for MiscNode {}
// SAFETY: `&MiscNode` gives access to nothing.
unsafe impl Sync for MiscNode {}

impl MiscNode {
    /// Registers `/dev/<nodename>` with a fixed `minor` of the misc major and the given `mode`.
    ///
    /// # Errors
    ///
    /// `EBUSY` if the minor is taken. May sleep.
    pub fn register<T: FileOps<Node = ()>>(
        minor: u32,
        name: &'static CStr,
        nodename: &'static CStr,
        mode: u16,
        fops: &'static FileOpsTable<T, Misc>,
    ) -> Result<Self> {
        let misc = bindings::miscdevice {
            minor: minor.try_into()?,
            name: name.as_char_ptr(),
            nodename: nodename.as_char_ptr(),
            mode,
            fops: fops.as_ptr(),
            ..pin_init::zeroed()
        };
        let misc = KBox::pin(Opaque::new(misc), GFP_KERNEL)?;
        // SAFETY: The struct is filled in, pinned, and removed before it is freed.
        to_result(unsafe { bindings::misc_register(misc.get()) })?;
        // INVARIANT: It was registered just now; what it names is static.
        Ok(Self(misc))
    }
}

impl Drop for MiscNode {
    fn drop(&mut self) {
        // SAFETY: It is registered (type invariant).
        unsafe { bindings::misc_deregister(self.0.get()) }
    }
}

/// A device class together with the device numbers of its nodes; dropping it gives both back.
///
/// # Invariants
///
/// The class is registered, and all [`MINORS`] numbers from `first` on are the module's.
pub struct NodeClass {
    class: Pin<KBox<ClassInner>>,
    first: bindings::dev_t,
}

#[repr(C)]
struct ClassInner {
    class: Opaque<bindings::class>,
    /// The folder below `/dev` that the nodes go to.
    folder: &'static CStr,
}

// SAFETY: The class is only handed to the driver core, which locks it.
unsafe impl Send for NodeClass {}
// SAFETY: As above.
unsafe impl Sync for NodeClass {}

/// How many nodes a [`NodeClass`] can have: all minors of one major.
const MINORS: u32 = 1 << bindings::MINORBITS;

impl NodeClass {
    /// Registers the class `name`, whose nodes are `/dev/<folder>/<device name>`.
    ///
    /// # Errors
    ///
    /// `EEXIST` if there is such a class. May sleep.
    pub fn register(name: &'static CStr, folder: &'static CStr) -> Result<Self> {
        let class = KBox::pin(
            ClassInner {
                class: Opaque::new(bindings::class {
                    name: name.as_char_ptr(),
                    devnode: Some(devnode),
                    ..pin_init::zeroed()
                }),
                folder,
            },
            GFP_KERNEL,
        )?;
        let mut first = 0;
        // SAFETY: `first` is valid for writes; `name` lives forever.
        to_result(unsafe {
            bindings::alloc_chrdev_region(&mut first, 0, MINORS, name.as_char_ptr())
        })?;
        // SAFETY: The struct is filled in, pinned, and unregistered before it is freed.
        let ret = to_result(unsafe { bindings::class_register(class.class.get()) });
        if let Err(err) = ret {
            // SAFETY: Allocated above.
            unsafe { bindings::unregister_chrdev_region(first, MINORS) };
            return Err(err);
        }
        // INVARIANT: Both calls succeeded.
        Ok(Self { class, first })
    }
}

impl Drop for NodeClass {
    fn drop(&mut self) {
        // SAFETY: Both are ours (type invariant); nodes borrow nothing from us but hold the module,
        // whose exit drops them first.
        unsafe {
            bindings::class_unregister(self.class.class.get());
            bindings::unregister_chrdev_region(self.first, MINORS);
        }
    }
}

/// Names a node for devtmpfs.
///
/// # Safety
///
/// Called by the driver core with a device of a class that [`NodeClass::register`] made.
unsafe extern "C" fn devnode(
    dev: *const bindings::device,
    _mode: *mut bindings::umode_t,
) -> *mut c_char {
    // SAFETY: The driver core passes a device of a class that `register` made.
    let class = unsafe { (*dev).class }
        .cast_mut()
        .cast::<Opaque<bindings::class>>();
    // SAFETY: `class` is the field of a `ClassInner`.
    let folder = unsafe { (*container_of!(class, ClassInner, class)).folder };
    // SAFETY: The strings fit the format; the caller frees the result.
    unsafe {
        bindings::kasprintf(
            bindings::GFP_KERNEL,
            c"%s/%s".as_char_ptr(),
            folder.as_char_ptr(),
            bindings::dev_name(dev),
        )
    }
}

/// A character device node that carries `N`.
///
/// Lives until the last open file, sysfs user and [`NodeRegistration`] are gone.
///
/// # Invariants
///
/// `dev` is initialised and has a reference; its release frees the `KBox` that this is in. `cdev`
/// is initialised if `dev` has a number, and its parent is `dev`.
#[repr(C)]
pub struct CharNode<N> {
    cdev: Opaque<bindings::cdev>,
    dev: Opaque<bindings::device>,
    data: N,
}

impl<N: Send + Sync + 'static> CharNode<N> {
    /// # Safety
    ///
    /// `cdev` must be the field of a live `CharNode<N>`.
    pub(crate) unsafe fn from_cdev<'a>(cdev: *mut bindings::cdev) -> &'a N {
        let cdev = cdev.cast::<Opaque<bindings::cdev>>();
        // SAFETY: By the contract of this function.
        unsafe { &(*container_of!(cdev, Self, cdev)).data }
    }

    /// Adds a device `name` of `class`, with a node of the given `minor`, which users can open
    /// before this returns. Without a node, a device that is seen in sysfs only.
    ///
    /// # Errors
    ///
    /// `EEXIST` if the name is taken, `ENOSPC` if the minor is out of range. May sleep.
    pub fn register(
        class: &NodeClass,
        node: Option<(u32, NodeOps<N>)>,
        parent: Option<&device::Device>,
        name: fmt::Arguments<'_>,
        data: N,
    ) -> Result<NodeRegistration<N>> {
        let node = match node {
            Some((minor, _)) if minor >= MINORS => return Err(ENOSPC),
            Some((minor, ops)) => Some((class.first + minor, ops)),
            None => None,
        };
        let name = CString::try_from_fmt(name)?;
        let this = KBox::new(
            Self {
                cdev: Opaque::zeroed(),
                dev: Opaque::zeroed(),
                data,
            },
            GFP_KERNEL,
        )?;
        let this = KBox::into_raw(this);
        // INVARIANT: Both are initialised here; `cdev_device_add()` makes `dev` the parent of a
        // cdev with a number.
        // SAFETY: `this` is a fresh allocation; from `device_initialize()` on it is freed by
        // `free_node` when its last reference goes, which `put_device()` gives up on failure. The
        // parent is alive, and `device_add()` takes a reference to it. Without a number
        // `cdev_device_add()` does not look at the cdev.
        unsafe {
            let cdev = (*this).cdev.get();
            let dev = (*this).dev.get();
            bindings::device_initialize(dev);
            if let Some((devt, ops)) = node {
                bindings::cdev_init(cdev, ops.0);
                (*cdev).owner = ops.0.owner;
                (*dev).devt = devt;
            }
            (*dev).class = class.class.class.get();
            (*dev).parent = parent.map_or(core::ptr::null_mut(), |parent| {
                core::ptr::from_ref(parent).cast_mut().cast()
            });
            (*dev).release = Some(free_node::<N>);
            let ret = to_result(bindings::dev_set_name(
                dev,
                c"%s".as_char_ptr(),
                name.as_char_ptr(),
            ))
            .and_then(|()| to_result(bindings::cdev_device_add(cdev, dev)));
            if let Err(err) = ret {
                bindings::put_device(dev);
                return Err(err);
            }
            // INVARIANT: It was added; the reference is that of `device_initialize()`.
            Ok(NodeRegistration(NonNull::new_unchecked(this), PhantomData))
        }
    }
}

/// Frees a node whose last reference is gone.
///
/// # Safety
///
/// Called by the driver core, once, with the `dev` field of a node that [`CharNode::register`]
/// made.
unsafe extern "C" fn free_node<N>(dev: *mut bindings::device) {
    let dev = dev.cast::<Opaque<bindings::device>>();
    // SAFETY: Called by the driver core once, when the last reference is gone, on the `dev` field
    // of a node that `register` leaked from a `KBox`.
    drop(unsafe { KBox::from_raw(container_of!(dev, CharNode<N>, dev)) });
}

/// A registered [`CharNode`]; dropping it removes the node. Files that are open stay so.
///
/// # Invariants
///
/// The node was added, and one reference to its device is this one's.
pub struct NodeRegistration<N>(NonNull<CharNode<N>>, PhantomData<N>);

// SAFETY: The node may be removed from any thread, and its data be dropped there.
unsafe impl<N: Send + Sync> Send for NodeRegistration<N> {}
// SAFETY: `&NodeRegistration` gives access to nothing.
unsafe impl<N: Send + Sync> Sync for NodeRegistration<N> {}

impl<N> Drop for NodeRegistration<N> {
    fn drop(&mut self) {
        let node = self.0.as_ptr();
        // SAFETY: It was added, and a reference is ours (type invariant). Without a number
        // `cdev_device_del()` does not look at the cdev.
        unsafe {
            let dev = addr_of_mut!((*node).dev).cast();
            bindings::cdev_device_del(addr_of_mut!((*node).cdev).cast(), dev);
            bindings::put_device(dev);
        }
    }
}
