// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Ids of transmit requests.

use super::*;
use std::vec;

#[test]
fn ids_of_requests() {
    let mut ids = TxIds::new([Id::UNUSED; 3]);
    let answer = |ids: &mut TxIds<_>, id, status| ids.finish(&TxResponse { id, status });
    assert_eq!(
        [ids.start(), ids.start(), ids.start()],
        [Ok(0), Ok(1), Ok(2)]
    );
    assert_eq!(ids.start(), Err(NoId));
    assert_eq!(answer(&mut ids, 1, -1), Ok(Some(1)));
    assert_eq!(answer(&mut ids, 1, 0), Err(BadTxResponse::NotPending(1)));
    assert_eq!(answer(&mut ids, 3, 0), Err(BadTxResponse::UnknownId(3)));
    assert_eq!(
        answer(&mut ids, 65535, 0),
        Err(BadTxResponse::UnknownId(65535))
    );
    assert!(ids.iter().eq([0, 2]));
    assert_eq!(answer(&mut ids, 0, 0), Ok(Some(0)));
    assert_eq!(
        [ids.start(), ids.start()],
        [Ok(0), Ok(1)],
        "the last one first"
    );
    ids.cancel(1);
    ids.cancel(1);
    assert_eq!(
        answer(&mut ids, 1, 0),
        Err(BadTxResponse::NotPending(1)),
        "not sent"
    );
    assert_eq!([ids.start(), ids.start()], [Ok(1), Err(NoId)]);
    assert_eq!(TxIds::new([Id::UNUSED; 0]).start(), Err(NoId));
    let mut many = TxIds::new(vec![Id::UNUSED; 70_000]);
    while many.start().is_ok() {}
    assert_eq!(many.iter().count(), 65534);
}

#[test]
fn responses_to_extra_information() {
    let mut ids = TxIds::new([Id::UNUSED; 3]);
    let null = TxResponse {
        id: 0,
        status: status::NULL,
    };
    ids.start().unwrap();
    assert_eq!(ids.finish(&null), Err(BadTxResponse::NoExtra));
    ids.start_extras(2);
    assert_eq!([ids.finish(&null), ids.finish(&null)], [Ok(None), Ok(None)]);
    assert_eq!(ids.finish(&null), Err(BadTxResponse::NoExtra));
    assert!(ids.iter().eq([0]), "still pending");
}
