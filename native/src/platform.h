/* TCB levels: which one holds for a platform, and what it means together with the QE's. */
#ifndef GLASS_PLATFORM_H
#define GLASS_PLATFORM_H

#include "collateral.h"

/* glass_platform_level returns the highest level that is nowhere above the SVNs of the PCK certificate, or NULL. */
const glass_tcb_level *glass_platform_level(const glass_levels *levels, const glass_pck_facts *pck);
/* glass_qe_level returns the highest level that is not above `isvsvn`, or NULL. */
const glass_tcb_level *glass_qe_level(const glass_levels *levels, uint16_t isvsvn);
/* glass_wanted_level returns the lowest level with the status UpToDate, else the highest level, or NULL if there is none. */
const glass_tcb_level *glass_wanted_level(const glass_levels *levels);
/* glass_qe_status_of returns UP_TO_DATE, REVOKED, or OUT_OF_DATE for everything else. */
glass_tcb_status glass_qe_status_of(const glass_tcb_level *level);
/* glass_converge returns the status of platform and QE together; UNKNOWN if either is. */
glass_tcb_status glass_converge(glass_tcb_status platform, glass_tcb_status qe);

#endif
