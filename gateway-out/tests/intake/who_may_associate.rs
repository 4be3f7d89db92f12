//! A-ASSOCIATE-RJ: result, source and reason of PS3.8 Table 9-21.

use crate::bed::{Bed, associate, rejection, slice, store};

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_stranger_gets_its_reason() {
    let logs = testkit::Logs::of_process();
    let bed =
        Bed::start(|config| config.routes[0].calling = Some(vec!["CT1".to_owned(), "CT2".to_owned()])).await;
    assert_eq!(rejection(associate(bed.dicom, "CT1", "GX").await), (1, 1, 7));
    assert_eq!(rejection(associate(bed.dicom, "CT1", "gw").await), (1, 1, 7), "titles have a case");
    assert_eq!(rejection(associate(bed.dicom, "CT3", "GW").await), (1, 1, 3));
    associate(bed.dicom, "CT2", "GW").await.unwrap().release().await;
    assert!(!logs.lines_with("did_you_mean=GW").is_empty(), "the nearest title is not named");
    let elsewhere =
        Bed::start(|config| config.routes[0].sources = Some(vec!["192.0.2.0/24".to_owned()])).await;
    assert_eq!(rejection(associate(elsewhere.dicom, "CT1", "GW").await), (1, 1, 3));
}

#[tokio::test(flavor = "multi_thread")]
async fn more_associations_than_allowed_are_turned_away_for_now() {
    let cases: [fn(&mut gateway_out::config::Config); 2] =
        [|config| config.dicom.associations_max = 2, |config| config.dicom.associations_per_peer_max = 2];
    for limit in cases {
        let bed = Bed::start(limit).await;
        let one = associate(bed.dicom, "CT1", "GW").await.unwrap();
        let mut two = associate(bed.dicom, "CT1", "GW").await.unwrap();
        assert_eq!(rejection(associate(bed.dicom, "CT1", "GW").await), (2, 3, 2));
        // A wrong title is wrong all the same.
        assert_eq!(rejection(associate(bed.dicom, "CT1", "GX").await), (1, 1, 7));
        assert_eq!(store(&mut two, &slice(2, 64)).await, 0);
        one.release().await;
        let free = testkit::eventually(std::time::Duration::from_secs(10), async || {
            match associate(bed.dicom, "CT1", "GW").await {
                Ok(third) => {
                    third.release().await;
                    true
                }
                Err(_) => false,
            }
        });
        assert!(free.await, "the place of a released association is not given to the next");
        two.release().await;
    }
}
