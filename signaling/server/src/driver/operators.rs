//! The operations of operators on a running server: they list rooms, remove members, and deny users and tokens.
//! `http/operate.rs` and `http/rooms.rs` call these.

use super::Driver;
use room_protocol::{
    ClientId, Hub, RoomId,
    hub::{DenyList, MemberInfo, RoomInfo},
};
use std::{cell::Ref, net::SocketAddr};

impl Driver {
    /// Removes a member from a room. Returns whether there was such a member.
    pub(crate) fn kick(&self, room_id: &RoomId, client_id: &ClientId) -> bool {
        let was_member = self.hub.borrow_mut().kick(self.now(), room_id, client_id);
        self.deliver(Vec::new());
        was_member
    }

    /// Removes all members from a room. Returns the number of them.
    pub(crate) fn close_room(&self, room_id: &RoomId) -> usize {
        let removed = self.hub.borrow_mut().close_room(self.now(), room_id);
        self.deliver(Vec::new());
        removed
    }

    /// The users and tokens that are denied, by the configuration or by operators since the start.
    pub(crate) fn denied(&self) -> DenyList {
        self.hub_config(&self.context.config()).denied
    }

    /// Changes what operators deny in addition to the configuration. Returns the result of `change`: whether it changed
    /// anything.
    pub(crate) fn change_denied(&self, change: impl FnOnce(&mut DenyList) -> bool) -> bool {
        let is_changed = change(&mut self.denied.borrow_mut());
        if is_changed {
            let config = self.hub_config(&self.context.config());
            self.hub.borrow_mut().reconfigure(self.now(), config);
            self.deliver(Vec::new());
        }
        is_changed
    }

    /// Shows rooms with their members in order, starting after `after`, until `look` returns `false`. Returns the last
    /// room that was shown, or `None` after the last of all. The second argument of `look` finds the address of a member.
    pub(crate) fn look_at_rooms(
        &self,
        after: Option<&RoomId>,
        mut look: impl FnMut(RoomInfo<'_>, &dyn Fn(&MemberInfo<'_>) -> Option<SocketAddr>) -> bool,
    ) -> Option<RoomId> {
        let hub = self.hub.borrow();
        let address = |member: &MemberInfo<'_>| self.registry.get(member.conn).map(|entry| entry.address);
        let mut rooms = hub.rooms_after(after);
        rooms.find_map(|room| {
            let room_id = room.room_id;
            (!look(room, &address)).then(|| room_id.clone())
        })
    }

    /// Whether the server is shutting down.
    pub(crate) fn is_draining(&self) -> bool {
        self.hub.borrow().is_draining()
    }

    /// The Hub, to count what is in it.
    pub(crate) fn hub(&self) -> Ref<'_, Hub> {
        self.hub.borrow()
    }

    /// The number of passwords that wait to be verified.
    pub(crate) fn passwords_waiting(&self) -> usize {
        self.passwords.waiting()
    }
}
