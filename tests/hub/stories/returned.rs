//! What a cluster has not published, as a slot has moved, is published where it is now (`docs/scaling.md#cluster`).

use wsify::effect::{Effect, Publication, Receipt, ShardId};

use crate::client::{Client, broadcast, post, with_id};
use crate::rig::Rig;

const ONE: ShardId = ShardId(0);

/// A cluster of one shard, which is up.
fn cluster() -> Rig {
    let mut rig = Rig::new();
    rig.hub.share(Some(String::new()));
    rig.hub.name_shard(ONE, Some("n:1".into()));
    rig.hub.assign_slots(0..=16_383, Some(ONE));
    rig.hub.set_publishing(ONE, true);
    rig.hub.set_listening(ONE, true);
    rig.run();
    assert!(rig.hub.is_broker_up());
    rig
}

fn published(rig: &mut Rig) -> Vec<Publication> {
    let publication = |effect| match effect {
        Effect::Publish(publication) => publication,
        other => panic!("{other:?}"),
    };
    rig.effects.drain(..).map(publication).collect()
}

fn contents(publications: &[Publication]) -> Vec<String> {
    let text = |it: &Publication| String::from_utf8(it.content.to_vec()).expect("a text");
    publications.iter().map(text).collect()
}

/// A client and a backend that have published: one content, and three in one call.
fn publishers(rig: &mut Rig) -> (Client, Client) {
    let client = rig.websocket();
    client.say(&with_id(1, &broadcast("a", "1")));
    let backend = rig.client();
    let body =
        r#"[{"channel":"a","content":2},{"channel":"a","content":3},{"channel":"b","content":4}]"#;
    backend.send(&post(body));
    rig.run();
    (client, backend)
}

#[test]
fn returned_publications_are_published_in_order_once_their_shard_is_up() {
    let mut rig = cluster();
    let (mut client, mut backend) = publishers(&mut rig);
    let publications = published(&mut rig);
    assert_eq!(contents(&publications), ["1", "2", "3", "4"]);
    rig.hub.assign_slots(0..=16_383, None);
    for publication in publications {
        rig.hub.returned(publication);
    }
    rig.run();
    assert!(rig.effects.is_empty());
    rig.pass(4_000);
    rig.hub.assign_slots(0..=16_383, Some(ONE));
    rig.run();
    let publications = published(&mut rig);
    assert_eq!(contents(&publications), ["1", "2", "3", "4"]);
    for publication in publications {
        rig.hub.receipt(publication.from, Receipt::Confirmed);
    }
    rig.run();
    assert_eq!(client.hear(), [r#"{"id":1,"ok":true}"#]);
    assert_eq!(backend.hear(), ["201"]);
}

#[test]
fn a_returned_publication_without_a_master_in_time_is_unavailable() {
    let mut rig = cluster();
    let (mut client, mut backend) = publishers(&mut rig);
    let publications = published(&mut rig);
    rig.hub.assign_slots(0..=16_383, None);
    rig.pass(1_000);
    for publication in publications {
        rig.hub.returned(publication);
    }
    rig.run();
    rig.pass(3_999);
    assert_eq!(client.hear(), [""; 0]);
    rig.pass(1);
    let [answer] = client.hear().try_into().expect("one answer");
    assert!(answer.contains("unavailable"), "{answer}");
    assert_eq!(backend.hear(), ["503 unavailable"]);
    assert!(rig.effects.is_empty());
}

#[test]
fn many_that_are_returned_are_all_published() {
    let mut rig = cluster();
    let mut clients: Vec<Client> = (0..600).map(|_| rig.websocket()).collect();
    for client in &clients {
        client.say(&with_id(1, &broadcast("a", "1")));
    }
    rig.run();
    rig.hub.assign_slots(0..=16_383, None);
    for publication in published(&mut rig) {
        rig.hub.returned(publication);
    }
    rig.run();
    assert!(!rig.has_work(), "nothing has changed");
    rig.hub.assign_slots(0..=16_383, Some(ONE));
    rig.run();
    let publications = published(&mut rig);
    assert_eq!(publications.len(), 600);
    for publication in publications {
        rig.hub.receipt(publication.from, Receipt::Confirmed);
    }
    rig.run();
    assert!(clients.iter_mut().all(|client| client.hear().len() == 1));
}
