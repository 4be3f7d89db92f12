//! 0000H is given for what is durable, and for nothing else.

use service::config::ByteSize;
use spool::{Outbox, State};

use crate::bed::{Bed, associate, rejection, slice, store};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_outbox_says_so_and_keeps_what_it_has() {
    let bed = Bed::start(|config| config.outbox.bytes_max = ByteSize(100_000)).await;
    let mut association = associate(bed.dicom, "CT1", "GW").await.unwrap();
    let mut answers = Vec::new();
    for seed in 10..30 {
        answers.push(store(&mut association, &slice(seed, 64)).await);
    }
    let accepted = answers.iter().take_while(|status| **status == 0).count();
    assert!((5..20).contains(&accepted), "{answers:04X?}");
    assert!(answers[accepted..].iter().all(|status| *status == 0xA700), "{answers:04X?}");
    // One that is larger than all of it, on the same association.
    assert_eq!(store(&mut association, &slice(31, 512)).await, 0xA700);
    association.release().await;
    assert_eq!(rejection(associate(bed.dicom, "CT1", "GW").await), (2, 3, 2), "above the watermark");
    let rows = bed.deliveries().await;
    assert_eq!((rows.len(), bed.bodies().len()), (accepted, accepted));
    assert!(rows.iter().all(|row| row.state == State::Sealed));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_behind() {
    let bed = Bed::start(|_| {}).await;
    let good = slice(40, 64);
    let mut cut = good.clone();
    cut.data.truncate(good.data.len() - 100);
    let mut garbage = good.clone();
    garbage.data[100..].fill(0xA5);
    let mut other_instance = good.clone();
    other_instance.meta.sop_instance = slice(41, 8).meta.sop_instance;
    let mut association = associate(bed.dicom, "CT1", "GW").await.unwrap();
    let cases = [(&cut, 0xC001), (&garbage, 0xC000), (&other_instance, 0xA900), (&good, 0)];
    for (sample, status) in cases {
        assert_eq!(store(&mut association, sample).await, status);
    }
    assert_eq!((bed.deliveries().await.len(), bed.bodies().len()), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_association_that_breaks_leaves_nothing_behind() {
    let bed = Bed::start(|_| {}).await;
    let sample = slice(50, 1024);
    let mut association = associate(bed.dicom, "CT1", "GW").await.unwrap();
    assert_eq!(store(&mut association, &slice(51, 64)).await, 0);
    association.store_begin(&sample.meta).await.unwrap();
    association.store_data(sample.data[..1 << 20].to_vec()).await.unwrap();
    association.abort().await;
    let gone = testkit::eventually(std::time::Duration::from_secs(10), async || bed.bodies().len() == 1);
    assert!(gone.await, "{:?}", bed.bodies());
    assert_eq!(bed.deliveries().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outbox_of_another_key_is_not_opened_and_gets_no_new_key() {
    let bed = Bed::start(|_| {}).await;
    let mut association = associate(bed.dicom, "CT1", "GW").await.unwrap();
    assert_eq!(store(&mut association, &slice(60, 64)).await, 0);
    association.release().await;
    let dir = bed.stop().await;
    let key = dir.path().join("keys").join(gateway_out::init::OUTBOX_KEY);
    std::fs::remove_file(&key).unwrap();
    let file = dir.path().join("gateway-out.toml");
    let settings = || {
        let loaded = service::config::load::<gateway_out::config::Config>(&file, "SLUIS_NOT_SET_").unwrap();
        gateway_out::config::Config::check(&loaded).unwrap()
    };
    assert!(gateway_out::app::outbox_keys(&settings().outbox).is_err());
    assert!(!key.exists(), "a lost key was replaced");
    spool::OutboxKey::generate_file(&key).unwrap();
    let (other, index_key) = gateway_out::app::outbox_keys(&settings().outbox).unwrap();
    let config = gateway_out::app::outbox_config(&settings().outbox, settings().retry.policy());
    assert!(Outbox::open(config, other, index_key, base::Timestamp::now()).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reserve_that_leaves_the_index_no_room_is_refused() {
    let dir = Bed::start(|_| {}).await.stop().await;
    let file = dir.path().join("gateway-out.toml");
    let check = |bytes| {
        let mut loaded =
            service::config::load::<gateway_out::config::Config>(&file, "SLUIS_NOT_SET_").unwrap();
        loaded.config.outbox.reserve = ByteSize(bytes);
        gateway_out::config::Config::check(&loaded).map(drop).map_err(|error| error.to_string())
    };
    for bytes in [0, 1, (64 << 20) - 1] {
        let refused = check(bytes).unwrap_err();
        assert!(refused.contains("outbox.reserve") && refused.contains("64 MiB"), "{refused}");
    }
    assert_eq!(check(64 << 20), Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_says_whether_it_ends() {
    let bed = Bed::start(|_| {}).await;
    let mut association = associate(bed.dicom, "CT1", "GW").await.unwrap();
    for seed in 80..83 {
        assert_eq!(store(&mut association, &slice(seed, 8)).await, 0);
    }
    let queue = bed.queue();
    for (limit, shown, more) in
        [(0, 0, true), (2, 2, true), (3, 3, false), (4, 3, false), (u32::MAX, 3, false)]
    {
        let listed = gateway_out::queue::list(&queue, None, false, limit).await.unwrap();
        assert_eq!((listed.rows.len(), listed.more), (shown, more), "limit {limit}");
    }
}
