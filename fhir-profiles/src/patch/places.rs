//! Where the elements stand that a path has found.

use crate::json::{Json, Limits};

/// Where an element stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// From the resource to what holds it.
    pub(super) holder: Vec<Step>,
    /// Its key there, without `_`.
    pub(super) key: String,
    /// Its place among several.
    pub(super) index: Option<usize>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// One walk over a resource.
pub(super) struct Walk<'j> {
    /// Values by their addresses in order, and their places once these are known.
    wanted: Vec<(*const (), Option<Place>)>,
    way: Vec<Way<'j>>,
    /// Values that were passed.
    pub(super) passed: usize,
}

#[derive(Clone, Copy)]
enum Way<'j> {
    Key(&'j str),
    Index(usize),
}

/// The resource is nested deeper than one that comes from outside may be.
#[derive(Debug)]
pub(super) struct TooDeep;

fn address(node: &Json) -> *const () {
    std::ptr::from_ref(node).cast()
}

impl<'j> Walk<'j> {
    /// Walks over all of the resource.
    pub(super) fn over(resource: &'j Json<'static>, wanted: &[&Json]) -> Result<Self, TooDeep> {
        let mut wanted: Vec<_> = wanted.iter().map(|node| (address(node), None)).collect();
        wanted.sort_unstable_by_key(|(address, _)| *address);
        wanted.dedup_by_key(|(address, _)| *address);
        let mut walk = Self { wanted, way: Vec::new(), passed: 0 };
        walk.node(resource, 1)?;
        Ok(walk)
    }

    /// Where one that was wanted stands.
    pub(super) fn place(&self, node: &Json) -> Option<&Place> {
        let at = self.wanted.binary_search_by_key(&address(node), |(address, _)| *address).ok()?;
        self.wanted.get(at)?.1.as_ref()
    }

    /// `depth` counts arrays and objects, as the parser of JSON does.
    fn node(&mut self, node: &'j Json<'static>, depth: usize) -> Result<(), TooDeep> {
        self.passed += 1;
        let most = Limits::default().depth;
        let Json::Object(object) = node else {
            return if depth > most && matches!(node, Json::Array(_)) { Err(TooDeep) } else { Ok(()) };
        };
        if depth > most {
            return Err(TooDeep);
        }
        for (key, value) in object.iter() {
            let Json::Array(items) = value else {
                self.found(value, key, None);
                self.way.push(Way::Key(key));
                self.node(value, depth + 1)?;
                self.way.pop();
                continue;
            };
            self.way.push(Way::Key(key));
            for (n, item) in items.iter().enumerate() {
                self.found(item, key, Some(n));
                self.way.push(Way::Index(n));
                self.node(item, depth + 2)?;
                self.way.pop();
            }
            self.way.pop();
        }
        Ok(())
    }

    fn found(&mut self, node: &Json, key: &str, index: Option<usize>) {
        let Ok(at) = self.wanted.binary_search_by_key(&address(node), |(address, _)| *address) else {
            return;
        };
        // The way ends at the array of which it is one.
        let above = self.way.len().saturating_sub(usize::from(index.is_some()));
        let holder = self.way.iter().take(above).map(|step| match step {
            Way::Key(key) => Step::Key((*key).to_owned()),
            Way::Index(n) => Step::Index(*n),
        });
        let key = key.strip_prefix('_').unwrap_or(key).to_owned();
        let place = Place { holder: holder.collect(), key, index };
        if let Some((_, found)) = self.wanted.get_mut(at) {
            *found = Some(place);
        }
    }
}
