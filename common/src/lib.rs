//! What origin, edge and loadtest share.
