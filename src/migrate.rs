//! Brings a database to what this program needs, under a lock.
