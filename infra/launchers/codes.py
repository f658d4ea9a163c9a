"""What the clouds' error codes mean for whoever launches: one table for each cloud. No SDK.

Sources: "Error codes for the Amazon EC2 API"; Compute Engine's "Troubleshooting resource errors"
and the codes and reasons of its API; "Troubleshoot Azure VM allocation failures" and "Troubleshoot
common Azure deployment errors".
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum

from headwater.infra.models import Cloud


class Kind(StrEnum):
    """What a code means."""

    CAPACITY = "no capacity"
    """Another zone, type or market may have some."""
    QUOTA = "quota"
    """Another region has a quota of its own; more can be asked for."""
    AUTHENTICATION = "authentication"
    INVALID = "invalid"
    THROTTLED = "throttled"
    """The same call works later."""
    UNAVAILABLE = "unavailable"
    """The same call may work later; whether it was done is not known."""
    GONE = "gone"
    IN_USE = "in use"
    """It works when something else has finished or is gone."""
    EXISTS = "exists"
    """An earlier call has made it."""


def _table(**codes: str) -> dict[str, Kind]:
    return {code: Kind[kind] for kind, text in codes.items() for code in text.split()}


AWS = _table(
    CAPACITY="""
        InsufficientInstanceCapacity InsufficientHostCapacity InsufficientReservedInstanceCapacity
        InsufficientCapacity InsufficientCapacityOnHost InsufficientVolumeCapacity
        InsufficientAddressCapacity InsufficientFreeAddressesInSubnet
        ReservationCapacityExceeded UnfulfillableCapacity SpotMaxPriceTooLow
        MaxSpotInstanceCountExceeded Unsupported UnsupportedHostConfiguration
        VolumeTypeNotAvailableInZone ZonesMismatched
        """,
    QUOTA="""
        VcpuLimitExceeded InstanceLimitExceeded VolumeLimitExceeded MaxIOPSLimitExceeded
        NetworkInterfaceLimitExceeded PrivateIpAddressLimitExceeded AddressLimitExceeded
        HostLimitExceeded ResourceLimitExceeded ReservedInstancesLimitExceeded
        SpotFleetRequestLimitExceeded
        """,
    AUTHENTICATION="""
        AuthFailure UnauthorizedOperation RequestExpired ExpiredToken ExpiredTokenException
        InvalidClientTokenId UnrecognizedClientException SignatureDoesNotMatch IncompleteSignature
        InvalidSignatureException MissingAuthenticationToken
        AccessDenied AccessDeniedException OptInRequired Blocked PendingVerification
        InvalidAccessKeyId
        """,
    INVALID="""
        InvalidAMIID.NotFound InvalidAMIID.Malformed InvalidAMIID.Unavailable
        InvalidSubnetID.NotFound InvalidSubnetId.Malformed InvalidSubnet InvalidSubnet.Conflict
        InvalidGroup.NotFound InvalidGroupId.Malformed InvalidSecurityGroupID.NotFound
        InvalidSecurityGroupId.Malformed InvalidSecurity.RequestHasExpired InvalidVpcID.NotFound
        InvalidKeyPair.NotFound InvalidParameter InvalidParameterValue InvalidParameterCombination
        MissingParameter MissingAction UnknownParameter InvalidAction ValidationError
        InvalidInstanceType InvalidInstanceAttributeValue InvalidBlockDeviceMapping
        InvalidDevice.InUse
        InvalidUserData.Malformed InvalidTagKey.Malformed TagLimitExceeded InvalidFilter InvalidZone
        InvalidAvailabilityZone InvalidRegion InvalidIamInstanceProfile NoSuchEntity
        InvalidKMSKey.NotFound InvalidKMSKey.InvalidState IdempotentParameterMismatch
        InvalidPlacementGroup.Unknown InvalidNetworkInterface.NotFound InstanceAlreadyLinked
        UnsupportedOperation OperationNotPermitted VPCIdNotSpecified DefaultVpcDoesNotExist
        InvalidInterface.IpAddressLimitExceeded SecurityGroupsPerInterfaceLimitExceeded
        InvalidInstanceID.Malformed InvalidVolumeID.Malformed DryRunOperation
        """,
    THROTTLED="""
        RequestLimitExceeded Throttling ThrottlingException ThrottledException RequestThrottled
        RequestThrottledException TooManyRequestsException EC2ThrottledException
        BandwidthLimitExceeded SlowDown PriorRequestNotComplete ConcurrentTagAccess
        """,
    UNAVAILABLE="""
        InternalError InternalFailure ServiceUnavailable Unavailable RequestTimeout
        RequestTimeoutException
        """,
    GONE="""
        InvalidInstanceID.NotFound InvalidInstanceID.NotLinkable InvalidVolume.NotFound
        InvalidVolumeID.NotFound InvalidNetworkInterfaceID.NotFound InvalidAllocationID.NotFound
        InvalidAddress.NotFound InvalidAddressID.NotFound InvalidSpotInstanceRequestID.NotFound
        InvalidAttachmentID.NotFound
        """,
    IN_USE="""
        VolumeInUse InvalidVolume.InUse InvalidNetworkInterface.InUse InvalidIPAddress.InUse
        DependencyViolation IncorrectState IncorrectInstanceState ResourceAlreadyAssociated
        InvalidAddress.Locked
        """,
)  # fmt: skip

GCP = _table(
    CAPACITY="""
        ZONE_RESOURCE_POOL_EXHAUSTED ZONE_RESOURCE_POOL_EXHAUSTED_WITH_DETAILS
        RESOURCE_POOL_EXHAUSTED REGION_RESOURCE_POOL_EXHAUSTED VM_MIN_COUNT_NOT_REACHED STOCKOUT
        IP_SPACE_EXHAUSTED IP_SPACE_EXHAUSTED_WITH_DETAILS
        RESERVATION_CAPACITY_EXCEEDED RESERVATION_NOT_READY
        """,
    QUOTA="""
        QUOTA_EXCEEDED quotaExceeded LIMIT_EXCEEDED limitExceeded
        """,
    AUTHENTICATION="""
        UNAUTHENTICATED PERMISSION_DENIED PERMISSIONS_ERROR SERVICE_DISABLED ACCESS_TOKEN_EXPIRED
        ACCESS_TOKEN_SCOPE_INSUFFICIENT CREDENTIALS_MISSING API_KEY_INVALID authError
        forbidden insufficientPermissions accessNotConfigured billingNotEnabled BILLING_DISABLED
        SERVICE_ACCOUNT_ACCESS_DENIED CONSUMER_INVALID USER_PROJECT_DENIED
        VM_EXTERNAL_IP_ACCESS_POLICY_CONSTRAINT
        """,
    INVALID="""
        INVALID_USAGE INVALID_FIELD_VALUE INVALID_ARGUMENT UNSUPPORTED_OPERATION
        UNSUPPORTED_MACHINE_TYPE CONDITION_NOT_MET FAILED_PRECONDITION
        RESOURCE_OPERATION_NOT_ALLOWED RESERVATION_NOT_FOUND RESERVATION_INCOMPATIBLE
        invalid badRequest parseError conditionNotMet invalidParameter
        """,
    THROTTLED="""
        RATE_LIMIT_EXCEEDED OPERATION_RATE_EXCEEDED RESOURCE_OPERATION_RATE_EXCEEDED
        CONCURRENT_OPERATIONS_QUOTA_EXCEEDED rateLimitExceeded userRateLimitExceeded
        concurrentOperationsQuotaExceeded RESOURCE_EXHAUSTED
        """,
    UNAVAILABLE="""
        INTERNAL_ERROR UNAVAILABLE INTERNAL DEADLINE_EXCEEDED UNKNOWN ABORTED
        backendError internalError internalServerError badGateway SERVICE_UNAVAILABLE
        OPERATION_CANCELED_BY_USER
        """,
    GONE="RESOURCE_NOT_FOUND NOT_FOUND notFound resourceNotFound",
    IN_USE="""
        RESOURCE_IN_USE_BY_ANOTHER_RESOURCE RESOURCE_NOT_READY RESOURCE_IN_USE
        resourceInUseByAnotherResource resourceNotReady
        """,
    EXISTS="RESOURCE_ALREADY_EXISTS ALREADY_EXISTS alreadyExists duplicate",
)  # fmt: skip

AZURE = _table(
    CAPACITY="""
        SkuNotAvailable AllocationFailed ZonalAllocationFailed OverconstrainedAllocationRequest
        OverconstrainedZonalAllocationRequest SubnetIsFull AvailabilityZoneNotSupported
        LocationNotAvailableForResourceType NotAvailableForSubscription
        """,
    QUOTA="""
        QuotaExceeded OperationNotAllowed ResourceQuotaExceeded
        NetworkInterfaceCountLimitReached PublicIPCountLimitReached
        """,
    AUTHENTICATION="""
        AuthenticationFailed AuthorizationFailed InvalidAuthenticationToken
        InvalidAuthenticationTokenTenant ExpiredAuthenticationToken
        AuthenticationFailedInvalidHeader LinkedAuthorizationFailed LinkedAccessCheckFailed
        SubscriptionNotRegistered
        MissingSubscriptionRegistration MissingRegistrationForType DisabledSubscription
        ReadOnlyDisabledSubscription SubscriptionDisabled RequestDisallowedByPolicy
        ScopeLocked InvalidSubscriptionRegistrationState UnauthorizedClientApplication
        """,
    INVALID="""
        InvalidParameter InvalidRequestFormat InvalidRequestContent InvalidTemplate BadRequest
        PropertyChangeNotAllowed ImageNotFound PlatformImageNotFound GalleryImageNotFound
        InvalidResourceReference InvalidResourceId LinkedInvalidPropertyId ResourceGroupNotFound
        SubscriptionNotFound InvalidSubscriptionId ParentResourceNotFound
        ResourcePurchaseValidationFailed MarketplacePurchaseEligibilityFailed
        VMMarketplaceInvalidInput InvalidResourceLocation LocationNotAvailable
        InvalidResourceName InvalidTagNameCharacters InvalidTag InvalidTagName BadArgument
        FeatureNotEnabled FeatureNotRegistered NetworkSecurityGroupNotFound
        SubnetNotFound VnetNotFound InUseSubnetCannotBeDeleted NetworkAcrossLocation
        SecurityRuleInvalid VMSizeNotSupported VmSizeDoesntSupportSpot DiskSizeTooSmall
        HypervisorGenerationMismatch CannotReuseVirtualMachineName NoRegisteredProviderFound
        InvalidApiVersionParameter MissingApiVersionParameter UserImageNotFound
        """,
    THROTTLED="""
        TooManyRequests TooManyRequestsReceived SubscriptionRequestsThrottled
        TenantRequestsThrottled ResourceRequestsThrottled ResourceCollectionRequestsThrottled
        RetryableErrorDueToThrottling
        """,
    UNAVAILABLE="""
        InternalServerError InternalError InternalExecutionError InternalOperationError
        ServiceUnavailable ServerTimeout GatewayTimeout RequestTimeout RetryableError
        NetworkingInternalOperationError VMStartTimedOut OSProvisioningTimedOut
        OSProvisioningInternalError OSProvisioningClientError VMExtensionProvisioningTimeout
        OperationPreempted OperationTimedOut
        """,
    GONE="ResourceNotFound NotFound VirtualMachineNotFound DiskNotFound",
    IN_USE="""
        AnotherOperationInProgress ConflictingServerOperation Conflict ConflictError
        NicInUse NicReservedForAnotherVm InUseNetworkInterfaceCannotBeDeleted
        PublicIPAddressCannotBeDeleted InUsePublicIpAddressCannotBeDeleted
        DiskInUse AttachedDiskCannotBeDeleted ReferencedResourceNotProvisioned
        ResourceIsBeingDeleted VMBeingDeleted AttachDiskWhileBeingDetached
        DiskIsAttachedToVM ResourceGroupBeingDeleted
        """,
)  # fmt: skip

TABLES: Mapping[Cloud, Mapping[str, Kind]] = {Cloud.AWS: AWS, Cloud.GCP: GCP, Cloud.AZURE: AZURE}

STATUSES = {
    400: Kind.INVALID,
    401: Kind.AUTHENTICATION,
    403: Kind.AUTHENTICATION,
    404: Kind.GONE,
    408: Kind.UNAVAILABLE,
    409: Kind.IN_USE,
    410: Kind.GONE,
    429: Kind.THROTTLED,
}
"""What a code that no table has goes by; of 500 and above it is ``UNAVAILABLE``."""


def kind_of(cloud: Cloud, code: str, status: int | None = None) -> Kind:
    """What ``code`` of ``cloud`` means.

    Args:
        status: Of the HTTP answer, which decides where the code is not known.

    Example:
        >>> kind_of(Cloud.AWS, "Server.InsufficientInstanceCapacity").value
        'no capacity'
        >>> kind_of(Cloud.GCP, "NEW_IN_2030", 503).value
        'unavailable'
    """
    table = TABLES[cloud]
    plain = code.removeprefix("Client.").removeprefix("Server.")
    if plain in table:
        return table[plain]
    if status is not None and status >= 500:
        return Kind.UNAVAILABLE
    return STATUSES.get(status or 0, Kind.INVALID)
