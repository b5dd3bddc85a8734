//! NOTICE and its msg-ids: the words by which clients of Twitch know what an
//! answer means, whatever its text says.

macro_rules! notice_ids {
    ($($variant:ident $word:literal)*) => {
        /// Twitch's msg-ids, as far as they are used here, and in their manner what Twitch
        /// has no word for.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum NoticeId {
            $($variant,)*
        }

        impl NoticeId {
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The value of the tag.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word,)*
                }
            }
        }
    };
}

notice_ids! {
    AlreadyBanned "already_banned"
    AlreadyEmoteOnlyOff "already_emote_only_off"
    AlreadyEmoteOnlyOn "already_emote_only_on"
    AlreadyNoLinksOff "already_no_links_off"
    AlreadyNoLinksOn "already_no_links_on"
    AlreadyR9kOff "already_r9k_off"
    AlreadyR9kOn "already_r9k_on"
    AlreadySubsOff "already_subs_off"
    AlreadySubsOn "already_subs_on"
    BadBanAnon "bad_ban_anon"
    BadBanBroadcaster "bad_ban_broadcaster"
    BadBanMod "bad_ban_mod"
    BadBanSelf "bad_ban_self"
    BadDeleteMessageBroadcaster "bad_delete_message_broadcaster"
    BadDeleteMessageError "bad_delete_message_error"
    BadDeleteMessageMod "bad_delete_message_mod"
    BadHeldMessage "bad_held_message"
    BadModBanned "bad_mod_banned"
    BadModMod "bad_mod_mod"
    BadSlowDuration "bad_slow_duration"
    BadTimeoutAnon "bad_timeout_anon"
    BadTimeoutBroadcaster "bad_timeout_broadcaster"
    BadTimeoutDuration "bad_timeout_duration"
    BadTimeoutMod "bad_timeout_mod"
    BadTimeoutSelf "bad_timeout_self"
    BadUnbanNoBan "bad_unban_no_ban"
    BadUnmodMod "bad_unmod_mod"
    BadVipGranteeAlreadyVip "bad_vip_grantee_already_vip"
    BadVipGranteeBanned "bad_vip_grantee_banned"
    BadUnvipGranteeNotVip "bad_unvip_grantee_not_vip"
    BanSuccess "ban_success"
    BlockedTermAdded "blocked_term_added"
    BlockedTermNotFound "blocked_term_not_found"
    BlockedTermRemoved "blocked_term_removed"
    BlockedTerms "blocked_terms"
    CmdsAvailable "cmds_available"
    ColorChanged "color_changed"
    DeleteMessageSuccess "delete_message_success"
    DeleteStaffMessageSuccess "delete_staff_message_success"
    EmoteOnlyOff "emote_only_off"
    EmoteOnlyOn "emote_only_on"
    FollowersOff "followers_off"
    FollowersOn "followers_on"
    FollowersOnZero "followers_on_zero"
    HeldApproved "held_approved"
    HeldDenied "held_denied"
    HeldForReview "held_for_review"
    HostOn "host_on"
    InvalidUser "invalid_user"
    ModSuccess "mod_success"
    MsgBanned "msg_banned"
    MsgBadCharacters "msg_bad_characters"
    MsgChannelSuspended "msg_channel_suspended"
    MsgDuplicate "msg_duplicate"
    MsgEmoteOnly "msg_emoteonly"
    MsgFollowersOnly "msg_followersonly"
    MsgFollowersOnlyFollowed "msg_followersonly_followed"
    MsgFollowersOnlyZero "msg_followersonly_zero"
    MsgR9k "msg_r9k"
    MsgRateLimit "msg_ratelimit"
    MsgRejected "msg_rejected"
    MsgRejectedMandatory "msg_rejected_mandatory"
    MsgRequiresVerifiedPhone "msg_requires_verified_phone_number"
    MsgRoomNotFound "msg_room_not_found"
    MsgSlowMode "msg_slowmode"
    MsgSubsOnly "msg_subsonly"
    MsgSuspended "msg_suspended"
    MsgTimedOut "msg_timedout"
    NoMods "no_mods"
    NoLinksOff "no_links_off"
    NoLinksOn "no_links_on"
    NoPermission "no_permission"
    NoVips "no_vips"
    PermitSuccess "permit_success"
    R9kOff "r9k_off"
    R9kOn "r9k_on"
    RaidErrorForbidden "raid_error_forbidden"
    RaidErrorSelf "raid_error_self"
    RaidErrorTooMany "raid_error_already_raiding"
    RaidSuccess "raid_success"
    RoomMods "room_mods"
    SlowOff "slow_off"
    SlowOn "slow_on"
    SubsOff "subs_off"
    SubsOn "subs_on"
    TimeoutSuccess "timeout_success"
    TooMany "too_many"
    UnbanSuccess "unban_success"
    UnmodSuccess "unmod_success"
    UnraidNoActiveRaid "unraid_error_no_active_raid"
    UnrecognizedCmd "unrecognized_cmd"
    UntimeoutSuccess "untimeout_success"
    UnvipSuccess "unvip_success"
    UsageAnnounce "usage_announce"
    UsageApprove "usage_approve"
    UsageBan "usage_ban"
    UsageBlockedTerm "usage_blocked_term"
    UsageClear "usage_clear"
    UsageDelete "usage_delete"
    UsageDeny "usage_deny"
    UsageEmoteOnlyOn "usage_emote_only_on"
    UsageFollowersOn "usage_followers_on"
    UsageMod "usage_mod"
    UsagePermit "usage_permit"
    UsageRaid "usage_raid"
    UsageSlowOn "usage_slow_on"
    UsageTimeout "usage_timeout"
    UsageUnban "usage_unban"
    UsageUnmod "usage_unmod"
    UsageUntimeout "usage_untimeout"
    UsageUnvip "usage_unvip"
    UsageVip "usage_vip"
    VipsSuccess "vips_success"
    VipSuccess "vip_success"
    WhisperInvalid "whisper_invalid_args"
}

impl NoticeId {
    /// A word of a later version reads as the plainest refusal.
    #[must_use]
    pub fn from_word(word: &str) -> Self {
        let known = Self::ALL.iter().find(|id| id.as_str() == word);
        known.copied().unwrap_or(Self::MsgRejected)
    }
}

/// What somebody is told, and nobody else unless it is an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Notice {
    pub id: NoticeId,
    /// One line.
    pub text: String,
}

impl Notice {
    #[must_use]
    pub fn new(id: NoticeId, text: impl Into<String>) -> Self {
        let text = text.into();
        Self { id, text }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_its_own() {
        for id in NoticeId::ALL {
            assert_eq!(NoticeId::from_word(id.as_str()), *id);
        }
        assert_eq!(NoticeId::from_word("of_tomorrow"), NoticeId::MsgRejected);
    }
}
