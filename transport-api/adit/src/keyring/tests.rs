use transport_api::EndpointAddress;

use super::*;

fn relay(name: &str) -> Paths {
    let folder = std::env::temp_dir().join(format!("adit-keyring-{}-{name}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let paths = Paths {
        key: folder.join("identity.key"),
        bundle: folder.join("relay.bundle"),
    };
    let keys = RelayKeys::generate().unwrap();
    keys.create(&paths.key).unwrap();
    let endpoint = BundleEndpoint {
        address: EndpointAddress::Ip([127, 0, 0, 1].into()),
        port: 9,
        cover: 0,
    };
    fs::write(&paths.bundle, keys.bundle(endpoint).unwrap()).unwrap();
    paths
}

#[test]
fn a_rotation_keeps_the_old_pair_until_its_bundle_ends() {
    let paths = relay("overlap");
    let (before, now) = (KeyRing::load(&paths).unwrap(), unix_now());
    let ring = KeyRing::rotate(&paths, now, false).unwrap();
    assert_eq!((ring.bundle.epoch(), ring.relay_id()), (2, before.relay_id()));
    assert_eq!(ring.bundle.endpoints(), before.bundle.endpoints());
    let mut read = KeyRing::load(&paths).unwrap();
    assert_eq!(read.keys.statics.kh(), ring.keys.statics.kh());
    let previous = read.previous.clone().unwrap();
    assert_eq!(
        (previous.epoch, previous.not_after),
        (1, before.bundle.not_after())
    );
    assert_eq!(previous.statics.kh(), before.keys.statics.kh());
    let mode = fs::metadata(&paths.key).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);

    // Not before its bundle has ended, and then from the file as well.
    assert!(!read.forget_expired(&paths, previous.not_after).unwrap());
    assert!(
        read.forget_expired(&paths, previous.forgotten_after() + 1)
            .unwrap()
    );
    assert!(read.previous.is_none());
    assert!(KeyRing::load(&paths).unwrap().previous.is_none());
}

#[test]
fn two_pairs_are_alive_at_most() {
    let paths = relay("two");
    let now = unix_now();
    let first = KeyRing::rotate(&paths, now, false).unwrap();
    let failure = KeyRing::rotate(&paths, now, false).err().unwrap();
    assert!(failure.message.contains("epoch 1 are still in use"), "{failure}");
    assert!(first.due() > first.previous.as_ref().unwrap().not_after);
    let forced = KeyRing::rotate(&paths, now, true).unwrap();
    assert_eq!((forced.bundle.epoch(), forced.previous.unwrap().epoch), (3, 2));
}

#[test]
fn keys_are_due_at_half_of_the_validity() {
    let ring = KeyRing::load(&relay("due")).unwrap();
    let (from, to) = (ring.bundle.not_before(), ring.bundle.not_after());
    assert_eq!(ring.due(), from + (to - from) / 2);
}

/// Every state a crash can leave behind: before the key was replaced, and before the bundle was renamed.
#[test]
fn a_crash_at_any_step_leaves_a_whole_relay() {
    let paths = relay("crash");
    let old_key = fs::read(&paths.key).unwrap();
    let old_bundle = fs::read(&paths.bundle).unwrap();
    KeyRing::rotate(&paths, unix_now(), false).unwrap();
    let (new_key, new_bundle) = (fs::read(&paths.key).unwrap(), fs::read(&paths.bundle).unwrap());
    let set = |key: &[u8], bundle: &[u8], next: Option<&[u8]>| {
        files::replace(&paths.key, 0o600, key).unwrap();
        fs::write(&paths.bundle, bundle).unwrap();
        files::remove_if_there(&next_path(&paths)).unwrap();
        if let Some(next) = next {
            fs::write(next_path(&paths), next).unwrap();
        }
    };
    // A part of the next bundle, or all of it, while the key is still the old one.
    for next in [&new_bundle[..100], &new_bundle[..]] {
        set(&old_key, &old_bundle, Some(next));
        let ring = KeyRing::load(&paths).unwrap();
        assert_eq!((ring.bundle.epoch(), ring.previous.is_none()), (1, true));
        assert_eq!(
            KeyRing::rotate(&paths, unix_now(), false).unwrap().bundle.epoch(),
            2
        );
    }
    // The key is the new one, the bundle's name not yet.
    set(&new_key, &old_bundle, Some(&new_bundle));
    let ring = KeyRing::load(&paths).unwrap();
    assert_eq!((ring.bundle.epoch(), ring.previous.unwrap().epoch), (2, 1));
    assert_eq!(fs::read(&paths.bundle).unwrap(), new_bundle);
    assert!(!next_path(&paths).exists());
    // A part of a key file beside the whole one.
    fs::write(files::beside(&paths.key, ".part"), &new_key[..50]).unwrap();
    assert_eq!(KeyRing::load(&paths).unwrap().bundle.epoch(), 2);
    KeyRing::rotate(&paths, unix_now(), true).unwrap();
    assert!(!files::beside(&paths.key, ".part").exists());
}

#[test]
fn a_key_restored_from_a_copy_goes_on_with_a_new_pair() {
    let paths = relay("restored");
    let copy = fs::read(&paths.key).unwrap();
    KeyRing::rotate(&paths, unix_now(), false).unwrap();
    files::replace(&paths.key, 0o600, &copy).unwrap();
    let failure = KeyRing::load(&paths).err().unwrap();
    assert_eq!(failure.code, Code::Config);
    assert!(failure.message.contains("adit bundle rotate"), "{failure}");
    let ring = KeyRing::rotate(&paths, unix_now(), false).unwrap();
    assert_eq!((ring.bundle.epoch(), ring.previous.is_none()), (3, true));
    assert_eq!(KeyRing::load(&paths).unwrap().bundle.epoch(), 3);
}

#[test]
fn two_rotations_at_once_make_one_epoch_each() {
    let paths = relay("race");
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let paths = paths.clone();
            std::thread::spawn(move || KeyRing::rotate(&paths, unix_now(), true).unwrap().bundle.epoch())
        })
        .collect();
    let mut epochs: Vec<u64> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
    epochs.sort_unstable();
    assert_eq!(epochs, [2, 3, 4, 5]);
    let ring = KeyRing::load(&paths).unwrap();
    assert_eq!((ring.bundle.epoch(), ring.previous.unwrap().epoch), (5, 4));
}
